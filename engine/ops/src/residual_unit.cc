// A residual unit of the decoder: Snake, a dilated convolution, Snake, a pointwise convolution, and what went in added to what comes
// out. A slab of positions goes all the way before the next begins, so nothing but the result is written to memory.
#include "residual_unit.h"

#include "lookup_bytes.h"
#include "lookup_steps.h"
#include "processor.h"

namespace sao {

namespace {

struct Tables {
  const uint8_t* bytes = nullptr;
  int64_t entries = 0;

  // Tables [b, channels, entries].
  static Tables of(Run& run, size_t index, const Shape& value, int64_t entries) {
    Shape shape;
    Tables tables = {run.input<uint8_t>(index, shape), entries};
    run.require(shape == Shape::of(value.lengths[0], value.lengths[1], entries), "expected a table for each channel");
    return tables;
  }
  const uint8_t* at(int64_t row) const { return bytes + row * entries; }
};

// A factor and a bias for each output of a convolution.
struct Scaling {
  const float* factors = nullptr;
  const int32_t* biases = nullptr;

  static Scaling of(Run& run, size_t index, int64_t outputs) {
    Shape factors, biases;
    Scaling scaling = {run.input<float>(index, factors), run.input<int32_t>(index + 1, biases)};
    run.require(factors.is_vector(outputs, 1) && biases.is_vector(outputs, 1), "expected a factor and a bias for each output");
    return scaling;
  }
};

// Where a slab of the result lies.
struct Place {
  int64_t first_row, start, count;
};

struct Unit {
  const Weights &dilated, &pointwise;
  int64_t channels, n, edge;
  const float* x;
  const uint8_t* edges;
  Tables steps, bytes;
  Scaling before, after;
  const float* scales;
  const uint8_t* zeros;
  float* y;

  // Snake of a row [n] with its edges on both sides, from position `start` of the row with its edges.
  void look_up(int64_t row, int64_t start, int64_t count, uint8_t* to) const {
    const uint8_t* sides = edges + row * edge;
    const float* values = x + row * n;
    int64_t position = start, end = start + count;
    for (; position < end && position < edge; ++position) *to++ = sides[position];
    const int64_t inside = (end < edge + n ? end : edge + n) - position;
    if (inside > 0) lookup_steps(values + position - edge, steps.at(row), to, inside), to += inside, position += inside;
    for (; position < end; ++position) *to++ = sides[position - edge - n];
  }

  // Both slabs are scratch, and so are rows of GROUP · width bytes.
  void compute(const Place& place, uint8_t* wide, uint8_t* narrow, uint8_t* rows) const {
    const int64_t reach = dilated.reach(), slab = pointwise.slab(), count = place.count;
    for (int64_t i = 0; i < channels; i += QUAD) {
      for (int64_t k = 0; k < QUAD && i + k < channels; ++k)
        look_up(place.first_row + i + k, place.start, count + reach, rows + k * dilated.width());
      arrange_quad(rows, channels - i, dilated.width(), count + reach, dilated.width(), wide + i * dilated.width());
    }
    for (int64_t group = 0; group < dilated.groups(); ++group) {
      const int64_t first = group * GROUP, here = channels - first < GROUP ? channels - first : GROUP;
      convolve_group(dilated, before.factors, before.biases, group, wide, count, rows, slab);
      for (int64_t k = 0; k < here; ++k)
        lookup_bytes(rows + k * slab, bytes.at(place.first_row + first + k), rows + k * slab, count);
      for (int64_t k = 0; k < here; k += QUAD)
        arrange_quad(rows + k * slab, here - k, slab, count, slab, narrow + (first + k) * slab);
    }
    for (int64_t group = 0; group < pointwise.groups(); ++group) {
      const int64_t first = group * GROUP, here = channels - first < GROUP ? channels - first : GROUP;
      convolve_group(pointwise, after.factors, after.biases, group, narrow, count, rows, slab);
      for (int64_t k = 0; k < here; ++k) {
        const int64_t at = (place.first_row + first + k) * n + place.start;
        add_dequantized(x + at, rows + k * slab, scales[first + k], zeros[first + k], y + at, count);
      }
    }
  }
};

// The compiler makes a loop for each kind of registers of this.
SAO_INLINE void add(const float* x, const uint8_t* q, float scale, uint8_t zero, float* y, int64_t n) {
  for (int64_t t = 0; t < n; ++t) y[t] = x[t] + static_cast<float>(q[t] - zero) * scale;
}

#if defined(SAO_X86)
SAO_AVX2 void add_avx2(const float* x, const uint8_t* q, float scale, uint8_t zero, float* y, int64_t n) {
  add(x, q, scale, zero, y, n);
}
#endif

}  // namespace

void add_dequantized(const float* x, const uint8_t* q, float scale, uint8_t zero, float* y, int64_t n) {
#if defined(SAO_X86)
  if (kernels() >= Kernels::AVX2) return add_avx2(x, q, scale, zero, y, n);
#endif
  add(x, q, scale, zero, y, n);
}

void ResidualUnit::create(Setup& setup) {
  dilated.read(setup, 3, setup.dilation());
  pointwise.read(setup, 7, 1);
  setup.require(dilated.outputs() == dilated.inputs() && pointwise.outputs() == dilated.inputs() &&
                    pointwise.inputs() == dilated.inputs() && pointwise.taps() == 1,
                "expected two convolutions of as many channels, the second of one tap");
}

void ResidualUnit::compute(Run& run) const {
  Shape shape, edges_shape, scales_shape, zeros_shape;
  const float* x = run.input<float>(0, shape);
  const int64_t channels = dilated.inputs();
  if (!run.require(shape.axes == 3 && shape.lengths[1] == channels, "expected a value [b, channels, n] with the channels of the weights"))
    return;
  const int64_t clips = shape.lengths[0], n = shape.lengths[2];
  const uint8_t* edges = run.input<uint8_t>(2, edges_shape);
  const int64_t edge = edges_shape.last();
  run.require(edges_shape == Shape::of(clips, channels, edge) && 2 * edge == dilated.reach(),
              "expected edges [b, channels, frames] that make up for the reach of the kernel");
  const Tables steps = Tables::of(run, 1, shape, 2 * STEPS), bytes = Tables::of(run, 6, shape, 256);
  const Scaling before = Scaling::of(run, 4, channels), after = Scaling::of(run, 8, channels);
  const float* scales = run.input<float>(10, scales_shape);
  const uint8_t* zeros = run.input<uint8_t>(11, zeros_shape);
  run.require(scales_shape.is_vector(channels, 1) && zeros_shape.is_vector(channels, 1), "expected a scale and a zero point for each channel");
  float* y = run.output<float>(0, shape);
  if (run.failed()) return;
  const Unit unit = {dilated, pointwise, channels, n, edge, x, edges, steps, bytes, before, after, scales, zeros, y};
  const int64_t slab = dilated.slab(), slabs = (n + slab - 1) / slab, wide = dilated.slab_size(), narrow = pointwise.slab_size();
  run.parallel(clips * slabs, wide + narrow + GROUP * dilated.width(), [=, &unit](int64_t task, uint8_t* scratch) {
    const int64_t start = task % slabs * slab;
    const Place place = {task / slabs * channels, start, n - start < slab ? n - start : slab};
    unit.compute(place, scratch, scratch + wide, scratch + wide + narrow);
  });
}

}  // namespace sao
