#include "agreement.h"

#include <cstring>

#include "convolution.h"
#include "gated_rows.h"
#include "lookup_bytes.h"
#include "lookup_steps.h"
#include "processor.h"
#include "product.h"
#include "quantize_rows.h"
#include "residual_unit.h"

namespace sao {

namespace {

constexpr int64_t ROOM = MOST_COMPARED + MOST_OFFSET;
constexpr int64_t TAPS = 3, MOST_DILATED = 9;                     // Of the convolution.
constexpr int64_t ROWS = 7, MOST_INPUTS = 18, MOST_OUTPUTS = 150;  // Of the product: more than two panels.

struct Values {
  alignas(64) float x[ROOM], y[ROOM], bias[ROOM], gate_bias[ROOM];
  alignas(64) uint8_t q[ROOM], table[2 * STEPS];
};

struct Results {
  alignas(64) float floats[MOST_OFFSET + ROWS * MOST_OUTPUTS];
  alignas(64) uint8_t bytes[ROOM];
  // All of them, and so what must not be written as well.
  bool same(const Results& other) const { return std::memcmp(this, &other, sizeof other) == 0; }
};

// Runs one kernel over n values after the offset.
using Compute = void (*)(const Values&, Results&, int64_t offset, int64_t n);

struct Compared {
  const char* name;
  Compute compute;
};

const Compared COMPARED[] = {
    {"LookUpBytes",
     [](const Values& v, Results& r, int64_t o, int64_t n) { lookup_bytes(v.q + o, v.table, r.bytes + o, n); }},
    {"LookUpSteps",
     [](const Values& v, Results& r, int64_t o, int64_t n) { lookup_steps(v.x + o, v.table, r.bytes + o, n); }},
    {"QuantizeRows",
     [](const Values& v, Results& r, int64_t o, int64_t n) {
       float largest = largest_of(v.x + o, n);
       quantize_row(v.x + o, largest > 1e-9f ? largest : 1e-9f, 1.0f / 127, r.bytes + o, n);
     }},
    {"QuantizeGatedRows",
     [](const Values& v, Results& r, int64_t o, int64_t n) {
       int64_t whole = n / ROTATED * ROTATED;
       gate_row(v.x + o, v.y + o, v.bias[0], v.bias + o, v.gate_bias + o, r.floats + o, n);
       rotate_row(r.floats + o, whole);
       float largest = largest_of(r.floats + o, n);
       quantize_row(r.floats + o, largest > 1e-9f ? largest : 1e-9f, 1.0f / 127, r.bytes + o, n);
     }},
    {"ConvolveBytes",
     [](const Values& v, Results& r, int64_t o, int64_t n) {
       constexpr int64_t INPUTS = 6, STRIDE = 64;
       alignas(64) static uint8_t slab[2 * QUAD * (LONGEST + (TAPS - 1) * MOST_DILATED)];
       int8_t small[GROUP * INPUTS * TAPS];  // No two add up to more than 128, or kernels without VNNI would overflow.
       for (int64_t i = 0; i < GROUP * INPUTS * TAPS; ++i) small[i] = static_cast<int8_t>(v.q[i] % 128 - 64);
       Weights weights;
       int64_t dilation = 1 + n % MOST_DILATED, count = n % STRIDE - (TAPS - 1) * dilation;
       if (count > 0 && weights.arrange(small, GROUP, INPUTS, TAPS, dilation)) {
         float factors[GROUP];
         int32_t biases[GROUP];
         for (int64_t k = 0; k < GROUP; ++k) factors[k] = v.bias[k] / 1000, biases[k] = static_cast<int32_t>(1000 * v.bias[o + k]);
         for (int64_t i = 0; i < INPUTS; i += QUAD)
           arrange_quad(v.q + o + i * STRIDE, INPUTS - i, STRIDE, count + weights.reach(), weights.width(), slab + i * weights.width());
         convolve_group(weights, factors, biases, 0, slab, count, r.bytes + o, count);
       }
       weights.release();
     }},
    {"MultiplyBytes",
     [](const Values& v, Results& r, int64_t o, int64_t n) {
       static uint8_t bands[2 * BAND * 2 * (MOST_INPUTS + FOUR)];
       static int8_t panel[PANEL * (MOST_INPUTS + FOUR)], weights[MOST_INPUTS * MOST_OUTPUTS];
       const Product product = {ROWS, 1 + 5 * n % MOST_INPUTS, 1 + 3 * n % MOST_OUTPUTS};
       for (int64_t i = 0; i < product.inputs * product.outputs; ++i) weights[i] = static_cast<int8_t>(v.q[i % ROOM]);
       for (int64_t band = 0; band < product.bands(); ++band) arrange_band(product, v.q + o, band, bands + band * product.band_size());
       multiply_panels(product, bands, weights, v.x + o, 0, product.panels(), panel, r.floats + o);
     }},
    {"ResidualUnit",
     [](const Values& v, Results& r, int64_t o, int64_t n) {
       add_dequantized(v.x + o, v.q + o, v.bias[0], v.q[0], r.floats + o, n);
     }},
};

}  // namespace

float Random::value(float range) {
  uint64_t drawn = bits();
  float unit = static_cast<float>(drawn >> 40) / static_cast<float>(1 << 23) - 1.0f;
  switch (drawn & 31) {
    case 0:
      return 0.0f;
    case 1:
      return static_cast<float>(static_cast<int>(range * unit)) + 0.5f;
    case 2:
      return unit * 1e6f;
    default:
      return range * unit;
  }
}

const char* first_difference(Random& random, int64_t n, int64_t offset) {
  static Values values;  // Too large for the stacks of some threads. Only one thread compares.
  static Results expected, found;
  constexpr float RANGE = 700;  // Beyond the tables' edges.
  for (int64_t i = 0; i < ROOM; ++i) {
    values.x[i] = random.value(RANGE), values.y[i] = random.value(20);
    values.bias[i] = random.value(2), values.gate_bias[i] = random.value(2);
    values.q[i] = static_cast<uint8_t>(random.bits() >> 8);
  }
  for (uint8_t& entry : values.table) entry = static_cast<uint8_t>(random.bits() >> 8);
  const Kernels chosen = kernels();
  for (const Compared& compared : COMPARED) {
    std::memset(&expected, 0, sizeof expected);
    std::memset(&found, 0, sizeof found);
    use_kernels(Kernels::PORTABLE);
    compared.compute(values, expected, offset, n);
    use_kernels(chosen);
    compared.compute(values, found, offset, n);
    if (!expected.same(found)) return compared.name;
  }
  return nullptr;
}

void use_kernels_that_agree(Kernels most) {
  constexpr int64_t LENGTH = 191;  // Whole vectors of every kind, and a rest.
  for (int level = static_cast<int>(most); level > static_cast<int>(Kernels::PORTABLE); --level) {
    use_kernels(static_cast<Kernels>(level));
    if (static_cast<int>(kernels()) != level) continue;
    Random random(1);
    if (first_difference(random, LENGTH, 1) == nullptr) return;
  }
  use_kernels(Kernels::PORTABLE);
}

}  // namespace sao
