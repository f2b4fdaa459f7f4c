#pragma once

#include "operator.h"

namespace sao {

constexpr int64_t ROTATED = 64;  // Values that a rotation mixes.

// The gate of a feed-forward: y = v·silu(g), with v = scale·value + value_bias and g = scale·gate + gate_bias.
void gate_row(const float* value, const float* gate, float scale, const float* value_bias, const float* gate_bias, float* y,
              int64_t n);

// Multiplies every 64 of n values by the orthogonal Hadamard matrix, in place.
void rotate_row(float* x, int64_t n);

// Whether that matrix is what a graph has as `rotation`, as its function would multiply by any.
bool is_rotation(const float* matrix, const Shape& shape);

struct QuantizeGatedRows {
  static constexpr const char* NAME = "QuantizeGatedRows";
  // Value, gate, the scale of both for each row, the bias of each, the least "largest value", step, the Hadamard matrix.
  static constexpr Type INPUTS[] = {Type::FLOAT, Type::FLOAT, Type::FLOAT, Type::FLOAT,
                                    Type::FLOAT, Type::FLOAT, Type::FLOAT, Type::FLOAT};
  static constexpr Type OUTPUTS[] = {Type::UINT8, Type::FLOAT};  // Quantized, largest values.
  void create(Setup& setup);
  void compute(Run& run) const;
  void destroy() {}

 private:
  bool rotation_is_known_ = false;  // Checked when the graph was opened, and not at every run.
};

}  // namespace sao
