#pragma once

#include "operator.h"

namespace sao {

constexpr int64_t ROTATED = 64;  // Values that a rotation mixes.

// The gate of a feed-forward: y = v·silu(g), with v = scale·value + value_bias and g = scale·gate + gate_bias.
void gate_row(const float* value, const float* gate, float scale, const float* value_bias, const float* gate_bias, float* y,
              int64_t n);

// Multiplies every 64 of n values by the orthogonal Hadamard matrix, in place.
void rotate_row(float* x, int64_t n);

struct QuantizeGatedRows : Stateless {
  static constexpr const char* NAME = "QuantizeGatedRows";
  // Value, gate, the scale of both for each row, the bias of each, the least "largest value", step, the Hadamard matrix.
  static constexpr Type INPUTS[] = {Type::FLOAT, Type::FLOAT, Type::FLOAT, Type::FLOAT,
                                    Type::FLOAT, Type::FLOAT, Type::FLOAT, Type::FLOAT};
  static constexpr Type OUTPUTS[] = {Type::UINT8, Type::FLOAT};  // Quantized, largest values.
  void compute(Run& run) const;
};

}  // namespace sao
