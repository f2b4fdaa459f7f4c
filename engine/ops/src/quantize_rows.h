#pragma once

#include "operator.h"

namespace sao {

// The largest magnitude of n values.
float largest_of(const float* x, int64_t n);

// q[i] = round(x[i] / largest / step) + 128, each quotient rounded to single precision, halves rounded to even.
void quantize_row(const float* x, float largest, float step, uint8_t* q, int64_t n);

struct QuantizeRows : Stateless {
  static constexpr const char* NAME = "QuantizeRows";
  static constexpr Type INPUTS[] = {Type::FLOAT, Type::FLOAT, Type::FLOAT};  // Value, the least "largest value", step.
  static constexpr Type OUTPUTS[] = {Type::UINT8, Type::FLOAT};              // Quantized, largest values.
  void compute(Run& run) const;
};

}  // namespace sao
