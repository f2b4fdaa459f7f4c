#pragma once

#include "operator.h"

namespace sao {

// The largest magnitude of n values, at least `least`; NaN where one of them is NaN, because a broken network must be seen. Stock
// nodes lose a NaN in some places of a row.
float largest_of(const float* x, int64_t n, float least = 0);

// q[i] = round(x[i] / largest / step) + 128, each quotient rounded to single precision, halves rounded to even.
// NaN becomes −128.
void quantize_row(const float* x, float largest, float step, uint8_t* q, int64_t n);

struct QuantizeRows : Stateless {
  static constexpr const char* NAME = "QuantizeRows";
  static constexpr Type INPUTS[] = {Type::FLOAT, Type::FLOAT, Type::FLOAT};  // Value, the least "largest value", step.
  static constexpr Type OUTPUTS[] = {Type::UINT8, Type::FLOAT};              // Quantized, largest values.
  void compute(Run& run) const;
};

}  // namespace sao
