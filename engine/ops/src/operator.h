// From ONNX Runtime's tensors to plain arrays and back, and what every operator has in common.
#pragma once

#include "abi.h"

namespace sao {

constexpr size_t MOST_AXES = 8;

struct Shape {
  int64_t lengths[MOST_AXES] = {};
  size_t axes = 0;

  // The product of the lengths of axes `first` to `last`, the last one left out.
  int64_t product(size_t first, size_t last) const {
    int64_t result = 1;
    for (size_t i = first; i < last; ++i) result *= lengths[i];
    return result;
  }
  int64_t size() const { return product(0, axes); }
  int64_t last() const { return axes ? lengths[axes - 1] : 1; }
  bool operator==(const Shape& other) const {
    if (axes != other.axes) return false;
    for (size_t i = 0; i < axes; ++i)
      if (lengths[i] != other.lengths[i]) return false;
    return true;
  }
};

// One run of an operator. The first error is kept, and nothing is read or written after it.
class Run {
 public:
  explicit Run(KernelContext* context) : context_(context) {}

  template <typename T>
  const T* input(size_t index, Shape& shape) {
    return static_cast<const T*>(read(index, shape));
  }
  template <typename T>
  T* output(size_t index, const Shape& shape) {
    return static_cast<T*>(make(index, shape));
  }
  // Keeps an error unless what an operator takes for granted is so. Bundles come from anywhere.
  bool require(bool holds, const char* message);
  // Calls work(index) for every index below the count, on the threads of the session.
  template <typename Work>
  void parallel(int64_t count, const Work& work) {
    if (failed() || count <= 0) return;
    if (count == 1) return work(0);
    keep(ort.parallel(
        context_, [](void* data, size_t index) { (*static_cast<const Work*>(data))(static_cast<int64_t>(index)); },
        static_cast<size_t>(count), 0, const_cast<Work*>(&work)));
  }
  bool failed() const { return status_ != nullptr; }
  Status* status() const { return status_; }

 private:
  const void* read(size_t index, Shape& shape);
  void* make(size_t index, const Shape& shape);
  bool keep(Status* status);

  KernelContext* context_;
  Status* status_ = nullptr;
};

// Describes an operator to ONNX Runtime. `Operator` has NAME, INPUTS, OUTPUTS (arrays of types) and compute(Run&).
template <typename Operator>
CustomOp describe() {
  CustomOp op = {};
  op.version = OPERATOR_VERSION;
  op.name = [](const CustomOp*) -> const char* { return Operator::NAME; };
  op.provider = [](const CustomOp*) -> const char* { return nullptr; };
  op.input_type = [](const CustomOp*, size_t index) { return Operator::INPUTS[index]; };
  op.input_count = [](const CustomOp*) -> size_t { return sizeof(Operator::INPUTS) / sizeof(Type); };
  op.output_type = [](const CustomOp*, size_t index) { return Operator::OUTPUTS[index]; };
  op.output_count = [](const CustomOp*) -> size_t { return sizeof(Operator::OUTPUTS) / sizeof(Type); };
  op.create = [](const CustomOp*, const void* const*, const KernelInfo*) -> void* { return nullptr; };
  op.create_checked = [](const CustomOp*, const void* const*, const KernelInfo*, void** kernel) -> Status* {
    static char nothing;  // The operators have no state, and ONNX Runtime takes a null pointer for a failure.
    *kernel = &nothing;
    return nullptr;
  };
  op.compute = [](void*, KernelContext* context) {
    Run run(context);
    Operator::compute(run);
    if (run.failed()) ort.release_status(run.status());
  };
  op.compute_checked = [](void*, KernelContext* context) -> Status* {
    Run run(context);
    Operator::compute(run);
    return run.status();
  };
  op.destroy = [](void*) {};
  op.input_presence = [](const CustomOp*, size_t) { return Presence::REQUIRED; };
  op.output_presence = [](const CustomOp*, size_t) { return Presence::REQUIRED; };
  op.input_memory = [](const CustomOp*, size_t) { return 0; };
  op.variadic_input_least = [](const CustomOp*) { return 1; };
  op.variadic_input_same = [](const CustomOp*) { return 1; };
  op.variadic_output_least = [](const CustomOp*) { return 1; };
  op.variadic_output_same = [](const CustomOp*) { return 1; };
  op.first_version = [](const CustomOp*) { return 1; };
  op.last_version = [](const CustomOp*) { return 1; };
  return op;
}

}  // namespace sao
