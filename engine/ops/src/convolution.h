// Convolutions of bytes around 128 with signed weights of one byte, a slab of positions at a time.
//
// y[o][t] = clip(round(factor[o] · (bias[o] + Σ (x[i][t + k·dilation] − 128) · w[o][i][k])) + 128, 0, 255)
//
// The lanes of a register are positions, and every weight is spread over all lanes. Four input channels lie side by side, as
// instructions for dot products take them, and a tap only moves the place where positions are read: nothing is copied for each tap,
// and results come out as rows of channels.
#pragma once

#include "operator.h"

namespace sao {

constexpr int64_t QUAD = 4;   // Input channels that lie side by side.
constexpr int64_t GROUP = 8;  // Output channels that are computed at once.

// The positions that are computed at once: whole registers of every kind, and no more inputs than a cache has room for.
constexpr int64_t SHORTEST = 96, LONGEST = 768;

// The weights of a convolution, arranged for the kernels.
class Weights {
 public:
  // Arranges those of an operator's input, which has to be a constant int8 [outputs, inputs, taps].
  void read(Setup& setup, size_t index, int64_t dilation);
  // Arranges weights [outputs, inputs, taps]. Is there enough memory?
  bool arrange(const int8_t* weights, int64_t outputs, int64_t inputs, int64_t taps, int64_t dilation);
  void release();

  int64_t outputs() const { return outputs_; }
  int64_t inputs() const { return inputs_; }
  int64_t taps() const { return taps_; }
  int64_t dilation() const { return dilation_; }
  // Positions that the output is shorter than the input.
  int64_t reach() const { return (taps_ - 1) * dilation_; }
  // Inputs in whole quads, and outputs in whole groups. What is added has weights of 0.
  int64_t quads() const { return (inputs_ + QUAD - 1) / QUAD; }
  int64_t groups() const { return (outputs_ + GROUP - 1) / GROUP; }
  // Positions of a slab of results; those of the inputs that they are made of, and the bytes of these.
  int64_t slab() const;
  int64_t width() const { return slab() + reach(); }
  int64_t slab_size() const { return QUAD * quads() * width(); }
  const int8_t* group(int64_t index) const { return arranged_ + index * GROUP * QUAD * quads() * taps_; }
  const int32_t* sums() const { return sums_; }

 private:
  int64_t outputs_ = 0, inputs_ = 0, taps_ = 0, dilation_ = 1;
  int8_t* arranged_ = nullptr;  // [groups, quads, taps, 8, 4]
  int32_t* sums_ = nullptr;     // [outputs]: what all weights of an output add up to.
};

// Lays rows of `count` bytes side by side, at most QUAD: quad[t][k] = rows[k · stride + t]. What is left of `width` becomes 0.
void arrange_quad(const uint8_t* rows, int64_t available, int64_t stride, int64_t count, int64_t width, uint8_t* quad);

// A group of outputs at `count` positions, at most those of a slab: y[k · stride + t], eight rows also where there are fewer outputs.
//
// The slab is [quads, width, 4]. Factors and biases are those of all outputs.
void convolve_group(const Weights& weights, const float* factors, const int32_t* biases, int64_t group, const uint8_t* slab,
                    int64_t count, uint8_t* y, int64_t stride);

}  // namespace sao
