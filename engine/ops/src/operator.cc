#include "operator.h"

namespace sao {

Api ort;

bool Checked::keep(Status* status) {
  if (status == nullptr) return true;
  if (status_ == nullptr)
    status_ = status;
  else
    ort.release_status(status);
  return false;
}

bool Checked::require(bool holds, const char* message) {
  constexpr int INVALID_ARGUMENT = 2;
  if (holds || failed()) return !failed();
  return keep(ort.create_status(INVALID_ARGUMENT, message));
}

const void* Checked::read(const Value* value, Shape& shape) {
  ShapeInfo* info = nullptr;
  void* data = nullptr;
  if (failed() || !keep(ort.shape(value, &info))) return nullptr;
  size_t axes = 0;  // The shape keeps none that it has no room for.
  if (keep(ort.axes(info, &axes)) && require(axes <= MOST_AXES, "expected no more than 8 axes") &&
      keep(ort.lengths(info, shape.lengths, axes)))
    shape.axes = axes;
  ort.release_shape(info);
  if (!failed()) keep(ort.data(const_cast<Value*>(value), &data));
  return failed() ? nullptr : data;
}

bool Setup::find_constant(size_t index, const Value** value) {
  int is_constant = 0;
  return !failed() && keep(ort.constant(info_, index, &is_constant, value)) && is_constant && *value != nullptr;
}

const void* Setup::read_constant(size_t index, Shape& shape) {
  const Value* value = nullptr;
  const bool found = find_constant(index, &value);
  return require(found, "expected weights that are constants") ? read(value, shape) : nullptr;
}

int64_t Setup::dilation() {
  int64_t found = 0;
  size_t count = 1;
  if (failed()) return 1;
  Status* missing = ort.attribute(info_, "dilations", &found, &count);
  if (missing != nullptr) ort.release_status(missing);
  return require(missing == nullptr && count == 1 && found >= 1, "expected dilations: one of at least 1") ? found : 1;
}

const void* Run::read_input(size_t index, Shape& shape) {
  const Value* value = nullptr;
  return !failed() && keep(ort.input(context_, index, &value)) ? read(value, shape) : nullptr;
}

void* Run::make(size_t index, const Shape& shape) {
  Value* value = nullptr;
  void* data = nullptr;
  if (failed() || !keep(ort.output(context_, index, shape.lengths, shape.axes, &value))) return nullptr;
  return keep(ort.data(value, &data)) ? data : nullptr;
}

}  // namespace sao
