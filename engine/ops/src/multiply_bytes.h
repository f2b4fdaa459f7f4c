#pragma once

#include "operator.h"

namespace sao {

struct MultiplyBytes : Stateless {
  static constexpr const char* NAME = "MultiplyBytes";
  static constexpr Type INPUTS[] = {Type::UINT8, Type::INT8, Type::FLOAT};  // Value, weights, scales.
  static constexpr Type OUTPUTS[] = {Type::FLOAT};
  void compute(Run& run) const;
};

}  // namespace sao
