#pragma once

#include "convolution.h"

namespace sao {

struct ConvolveBytes {
  static constexpr const char* NAME = "ConvolveBytes";
  static constexpr Type INPUTS[] = {Type::UINT8, Type::INT8, Type::FLOAT, Type::INT32};  // Value, weights, factors, biases.
  static constexpr Type OUTPUTS[] = {Type::UINT8};

  Weights weights;

  void create(Setup& setup);
  void compute(Run& run) const;
  void destroy() { weights.release(); }
};

}  // namespace sao
