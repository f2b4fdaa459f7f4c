// From ONNX Runtime's tensors to plain arrays and back, and what every operator has in common.
#pragma once

#include <cstdlib>
#include <new>

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
  // One number, or a vector of n, beside a value of so many axes, whose shape it leaves as it is.
  bool is_number(size_t most_axes) const { return size() == 1 && axes <= most_axes; }
  bool is_vector(int64_t n, size_t most_axes) const { return size() == n && last() == n && axes <= most_axes; }
  static Shape of(int64_t clips, int64_t channels, int64_t n) { return {{clips, channels, n}, 3}; }
  bool operator==(const Shape& other) const {
    if (axes != other.axes) return false;
    for (size_t i = 0; i < axes; ++i)
      if (lengths[i] != other.lengths[i]) return false;
    return true;
  }
};

// Reading tensors. The first error is kept, and nothing is read or written after it.
class Checked {
 public:
  // Keeps an error unless what an operator takes for granted is so. Bundles come from anywhere.
  bool require(bool holds, const char* message);
  bool failed() const { return status_ != nullptr; }
  Status* status() const { return status_; }

 protected:
  const void* read(const Value* value, Shape& shape);
  bool keep(Status* status);

 private:
  Status* status_ = nullptr;
};

// What is known when a graph is opened.
// What ONNX Runtime itself says: the engine knows it by that.
constexpr const char* NO_MEMORY = "Failed to allocate memory";

class Setup : public Checked {
 public:
  explicit Setup(const KernelInfo* info) : info_(info) {}

  // An input that is a constant of the graph.
  template <typename T>
  const T* constant(size_t index, Shape& shape) {
    return static_cast<const T*>(read_constant(index, shape));
  }
  // Whether an input is a constant of the graph.
  bool is_constant(size_t index) {
    const Value* value = nullptr;
    return find_constant(index, &value);
  }
  // The attribute `dilations` of a convolution along one axis.
  int64_t dilation();

 private:
  bool find_constant(size_t index, const Value** value);
  const void* read_constant(size_t index, Shape& shape);

  const KernelInfo* info_;
};

// One run of an operator.
class Run : public Checked {
 public:
  explicit Run(KernelContext* context) : context_(context) {}

  template <typename T>
  const T* input(size_t index, Shape& shape) {
    return static_cast<const T*>(read_input(index, shape));
  }
  template <typename T>
  T* output(size_t index, const Shape& shape) {
    return static_cast<T*>(make(index, shape));
  }
  // Calls work(index) for every index below the count, on the threads of the session.
  template <typename Work>
  void parallel(int64_t count, const Work& work) {
    if (failed() || count <= 0) return;
    if (count == 1) return work(0);
    keep(ort.parallel(
        context_, [](void* data, size_t index) { (*static_cast<const Work*>(data))(static_cast<int64_t>(index)); },
        static_cast<size_t>(count), 0, const_cast<Work*>(&work)));
  }
  // The same with work(index, scratch): some bytes of each call's own.
  template <typename Work>
  void parallel(int64_t count, int64_t bytes, const Work& work) {
    bool all = true;  // Threads only ever write false.
    parallel(count, [=, &all, &work](int64_t index) {
      auto* scratch = static_cast<uint8_t*>(std::malloc(static_cast<size_t>(bytes)));
      if (scratch == nullptr)
        __atomic_store_n(&all, false, __ATOMIC_RELAXED);
      else
        work(index, scratch);
      std::free(scratch);
    });
    require(all, NO_MEMORY);
  }

 private:
  const void* read_input(size_t index, Shape& shape);
  void* make(size_t index, const Shape& shape);

  KernelContext* context_;
};

// An operator without anything of its own between its runs.
struct Stateless {
  void create(Setup&) {}
  void destroy() {}
};

// Describes an operator to ONNX Runtime. `Operator` has NAME, INPUTS, OUTPUTS (arrays of types), create(Setup&), compute(Run&) and
// destroy(). What create has set up is destroyed as well where it failed.
template <typename Operator>
void op_destroy(void* kernel) {
  static_cast<Operator*>(kernel)->destroy();
  std::free(kernel);
}

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
  op.create_checked = [](const CustomOp*, const void* const*, const KernelInfo* info, void** kernel) -> Status* {
    Setup setup(info);
    void* room = std::calloc(1, sizeof(Operator));
    if (setup.require(room != nullptr, NO_MEMORY)) {
      auto* made = new (room) Operator();
      made->create(setup);
      *kernel = made;
      if (setup.failed()) op_destroy<Operator>(made);
    }
    return setup.status();
  };
  op.compute = [](void* kernel, KernelContext* context) {
    Run run(context);
    static_cast<const Operator*>(kernel)->compute(run);
    if (run.failed()) ort.release_status(run.status());
  };
  op.compute_checked = [](void* kernel, KernelContext* context) -> Status* {
    Run run(context);
    static_cast<const Operator*>(kernel)->compute(run);
    return run.status();
  };
  op.destroy = op_destroy<Operator>;
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
