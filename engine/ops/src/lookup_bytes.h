#pragma once

#include "operator.h"

namespace sao {

// Looks up n bytes in a table of 256 bytes.
void lookup_bytes(const uint8_t* x, const uint8_t* table, uint8_t* y, int64_t n);
void lookup_bytes_portable(const uint8_t* x, const uint8_t* table, uint8_t* y, int64_t n);

struct LookUpBytes : Stateless {
  static constexpr const char* NAME = "LookUpBytes";
  static constexpr Type INPUTS[] = {Type::UINT8, Type::UINT8};  // Value, tables.
  static constexpr Type OUTPUTS[] = {Type::UINT8};
  void compute(Run& run) const;
};

}  // namespace sao
