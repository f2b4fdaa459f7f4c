// A matrix product of bytes: what ONNX Runtime's MatMulIntegerToFloat computes, from weights as they are in the file.
#include "multiply_bytes.h"

#include <cstdlib>

#include "product.h"

namespace sao {

void MultiplyBytes::compute(Run& run) const {
  Shape shape, weights_shape, scales_shape;
  const uint8_t* x = run.input<uint8_t>(0, shape);
  const int8_t* weights = run.input<int8_t>(1, weights_shape);
  const float* scales = run.input<float>(2, scales_shape);
  const int64_t inputs = weights_shape.lengths[0], outputs = weights_shape.lengths[1];
  run.require(weights_shape.axes == 2 && shape.axes >= 1 && shape.last() == inputs, "expected a value [..., inputs] and weights [inputs, outputs]");
  run.require(scales_shape.is_vector(outputs, 1), "expected a scale for each output");
  if (run.failed()) return;
  Shape result = shape;
  result.lengths[result.axes - 1] = outputs;
  float* y = run.output<float>(0, result);
  if (run.failed() || result.size() == 0) return;
  const Product product = {result.size() / outputs, inputs, outputs};
  auto* bands = static_cast<uint8_t*>(std::malloc(static_cast<size_t>(product.bands() * product.band_size() + 1)));
  if (run.require(bands != nullptr, NO_MEMORY)) {
    run.parallel(product.bands(), [=](int64_t band) { arrange_band(product, x, band, bands + band * product.band_size()); });
    // Some panels one after the other, in the same scratch, for as long as that leaves enough for all threads.
    constexpr int64_t ENOUGH = 8;
    const int64_t several = (product.panels() + ENOUGH - 1) / ENOUGH, tasks = (product.panels() + several - 1) / several;
    run.parallel(tasks, product.panel_size() + 1, [=](int64_t task, uint8_t* scratch) {
      const int64_t first = task * several, last = first + several < product.panels() ? first + several : product.panels();
      multiply_panels(product, bands, weights, scales, first, last, reinterpret_cast<int8_t*>(scratch), y);
    });
  }
  std::free(bands);
}

}  // namespace sao
