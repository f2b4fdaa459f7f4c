#pragma once

#include "convolution.h"

namespace sao {

struct ResidualUnit {
  static constexpr const char* NAME = "ResidualUnit";
  // Value, tables of steps, edges; weights, factors and biases of the dilated convolution; tables of bytes; the same of the
  // pointwise convolution; scale and zero point of what is added.
  static constexpr Type INPUTS[] = {Type::FLOAT, Type::UINT8, Type::UINT8, Type::INT8,  Type::FLOAT, Type::INT32, Type::UINT8,
                                    Type::INT8,  Type::FLOAT, Type::INT32, Type::FLOAT, Type::UINT8};
  static constexpr Type OUTPUTS[] = {Type::FLOAT};

  Weights dilated, pointwise;

  void create(Setup& setup);
  void compute(Run& run) const;
  void destroy() { dilated.release(), pointwise.release(); }
};

// y[t] = x[t] + (q[t] − zero) · scale
void add_dequantized(const float* x, const uint8_t* q, float scale, uint8_t zero, float* y, int64_t n);

}  // namespace sao
