// A convolution of bytes: what ONNX Runtime's QLinearConv computes, without its copies and transpositions.
#include "convolve_bytes.h"

#include <cstring>

namespace sao {

void ConvolveBytes::create(Setup& setup) { weights.read(setup, 1, setup.dilation()); }

void ConvolveBytes::compute(Run& run) const {
  Shape shape, factors_shape, biases_shape;
  const uint8_t* x = run.input<uint8_t>(0, shape);
  const float* factors = run.input<float>(2, factors_shape);
  const int32_t* biases = run.input<int32_t>(3, biases_shape);
  const int64_t outputs = weights.outputs(), inputs = weights.inputs();
  run.require(shape.axes == 3 && shape.lengths[1] == inputs, "expected a value [b, channels, n] with the channels of the weights");
  run.require(factors_shape.is_vector(outputs, 1) && biases_shape.is_vector(outputs, 1), "expected a factor and a bias for each output");
  const int64_t n = shape.lengths[2], result = n - weights.reach();
  if (!run.require(result >= 0, "the value is shorter than the kernel")) return;
  uint8_t* y = run.output<uint8_t>(0, Shape::of(shape.lengths[0], outputs, result));
  if (result == 0) return;
  const int64_t slab_length = weights.slab(), slabs = (result + slab_length - 1) / slab_length;
  const int64_t width = weights.width(), rows = GROUP * slab_length;
  run.parallel(shape.lengths[0] * slabs, weights.slab_size() + rows, [=](int64_t task, uint8_t* scratch) {
    const int64_t clip = task / slabs, start = task % slabs * slab_length;
    const int64_t count = result - start < slab_length ? result - start : slab_length;
    uint8_t* slab = scratch + rows;
    for (int64_t i = 0; i < inputs; i += QUAD)
      arrange_quad(x + (clip * inputs + i) * n + start, inputs - i, n, count + weights.reach(), width, slab + i * width);
    for (int64_t group = 0; group < weights.groups(); ++group) {
      const int64_t first = group * GROUP, left = outputs - first;
      uint8_t* to = y + (clip * outputs + first) * result + start;
      if (left >= GROUP) {
        convolve_group(weights, factors, biases, group, slab, count, to, result);
      } else {
        convolve_group(weights, factors, biases, group, slab, count, scratch, slab_length);
        for (int64_t k = 0; k < left; ++k) std::memcpy(to + k * result, scratch + k * slab_length, static_cast<size_t>(count));
      }
    }
  });
}

}  // namespace sao
