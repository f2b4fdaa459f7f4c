#pragma once

#include "operator.h"

namespace sao {

constexpr int64_t STEPS = 512;  // Of a table of bytes, on each side of zero.

// Clips n values to the table, truncates them, and looks them up; those below zero count from the table's end.
//
// y[i] = table[trunc(clip(x[i], 1 - STEPS, STEPS - 1)) mod 2·STEPS]
// NaN counts as the least step. Returns whether there is none.
bool lookup_steps(const float* x, const uint8_t* table, uint8_t* y, int64_t n);
bool lookup_steps_portable(const float* x, const uint8_t* table, uint8_t* y, int64_t n);

struct LookUpSteps : Stateless {
  static constexpr const char* NAME = "LookUpSteps";
  static constexpr Type INPUTS[] = {Type::FLOAT, Type::UINT8};  // Value, tables.
  static constexpr Type OUTPUTS[] = {Type::UINT8};
  void compute(Run& run) const;
};

}  // namespace sao
