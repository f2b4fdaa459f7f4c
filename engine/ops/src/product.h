// Matrix products of rows of bytes around 128 with signed weights of one byte.
//
// y[r][o] = scale[o] · Σ (x[r][i] − 128) · w[i][o]
//
// The lanes of a register are outputs, and every value is spread over all lanes. Four inputs lie side by side, as instructions for
// dot products take them. Weights are laid out so when they are used, a panel of outputs at a time: so nothing has to be prepared, or
// kept, when a graph is opened.
#pragma once

#include "operator.h"

namespace sao {

constexpr int64_t FOUR = 4;    // Inputs that lie side by side.
constexpr int64_t BAND = 6;    // Rows that are computed at once.
constexpr int64_t PANEL = 64;  // Outputs that are computed at once.

// Sizes of a product: x is [rows, inputs], w is [inputs, outputs], y is [rows, outputs].
struct Product {
  int64_t rows, inputs, outputs;

  int64_t fours() const { return (inputs + FOUR - 1) / FOUR; }
  int64_t bands() const { return (rows + BAND - 1) / BAND; }
  int64_t panels() const { return (outputs + PANEL - 1) / PANEL; }
  int64_t band_size() const;                                     // Bytes of a band that is laid out.
  int64_t panel_size() const { return PANEL * FOUR * fours(); }  // The same of a panel.
};

// Lays out a band of rows: [fours, 6, 4]. What is left is 0.
void arrange_band(const Product& product, const uint8_t* x, int64_t band, uint8_t* arranged);

// Multiplies all bands, one after the other in memory, by the panels from `first` to `last`. The scratch is a panel.
void multiply_panels(const Product& product, const uint8_t* bands, const int8_t* w, const float* scales, int64_t first, int64_t last,
                     int8_t* scratch, float* y);

}  // namespace sao
