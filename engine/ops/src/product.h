// Matrix products of rows of bytes around 128 with signed weights of one byte.
//
// y[r][o] = scale[o] · Σ (x[r][i] − 128) · w[i][o]
//
// The lanes of a register are outputs, and every value is spread over all lanes. Four inputs lie side by side, as instructions for
// dot products take them. Weights are laid out so when they are used, a panel of outputs at a time: that takes a few hundredths of
// the time of the products, and nothing has to be prepared, or kept, when a graph is opened.
#pragma once

#include "operator.h"

namespace sao {

constexpr int64_t FOUR = 4;         // Inputs that lie side by side.
constexpr int64_t BAND = 6;         // Rows that are computed at once.
constexpr int64_t COLUMNS = 64;     // Outputs that are computed at once.
constexpr int64_t WIDEST = 256;     // The most outputs of a panel, which are laid out at once.

// Sizes of a product: x is [rows, inputs], w is [inputs, outputs], y is [rows, outputs].
struct Product {
  int64_t rows, inputs, outputs;
  int64_t width;  // Of a panel, a multiple of COLUMNS.

  Product(int64_t rows, int64_t inputs, int64_t outputs);

  int64_t fours() const { return (inputs + FOUR - 1) / FOUR; }
  int64_t bands() const { return (rows + BAND - 1) / BAND; }
  int64_t panels() const { return (outputs + width - 1) / width; }
  int64_t band_size() const { return BAND * FOUR * fours(); }    // Bytes of a band that is laid out.
  int64_t part_size() const { return COLUMNS * FOUR * fours(); }  // The same of 64 outputs of a panel, and of all.
  int64_t panel_size() const { return width / COLUMNS * part_size(); }
};

// Lays out a band of rows: [fours, 6, 4]. What is left is 0.
void arrange_band(const Product& product, const uint8_t* x, int64_t band, uint8_t* arranged);

// Lays out a panel of weights: [width / 64, fours, 64, 4]. What is left is 0.
void arrange_panel(const Product& product, const int8_t* w, int64_t panel, int8_t* arranged);

// Multiplies all bands, one after the other in memory, by a panel.
void multiply_panel(const Product& product, const uint8_t* bands, const int8_t* arranged, const float* scales, int64_t panel, float* y);

}  // namespace sao
