// Rows of channels: [b, channels, n] beside something with an entry for each channel.
#pragma once

#include "operator.h"

namespace sao {

// The rows of a value and of its tables.
struct Rows {
  int64_t count = 0, length = 0, entries = 0;

  // Of a value [b, channels, n] and tables [b, channels, entries].
  static Rows of(Run& run, const Shape& value, const Shape& table) {
    Rows rows;
    bool fit = value.axes == 3 && table.axes == 3 && table.lengths[0] == value.lengths[0] && table.lengths[1] == value.lengths[1];
    if (!run.require(fit, "expected a value [b, channels, n] and tables [b, channels, entries]")) return rows;
    rows.count = value.lengths[0] * value.lengths[1];
    rows.length = value.lengths[2];
    rows.entries = table.lengths[2];
    return rows;
  }
};

}  // namespace sao
