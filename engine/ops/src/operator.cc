#include "operator.h"

namespace sao {

Api ort;

bool Run::keep(Status* status) {
  if (status == nullptr) return true;
  if (status_ == nullptr)
    status_ = status;
  else
    ort.release_status(status);
  return false;
}

bool Run::require(bool holds, const char* message) {
  constexpr int INVALID_ARGUMENT = 2;
  if (holds || failed()) return !failed();
  return keep(ort.create_status(INVALID_ARGUMENT, message));
}

const void* Run::read(size_t index, Shape& shape) {
  const Value* value = nullptr;
  ShapeInfo* info = nullptr;
  void* data = nullptr;
  if (failed() || !keep(ort.input(context_, index, &value)) || !keep(ort.shape(value, &info))) return nullptr;
  if (keep(ort.axes(info, &shape.axes)) && require(shape.axes <= MOST_AXES, "too many axes"))
    keep(ort.lengths(info, shape.lengths, shape.axes));
  ort.release_shape(info);
  if (!failed()) keep(ort.data(const_cast<Value*>(value), &data));
  return failed() ? nullptr : data;
}

void* Run::make(size_t index, const Shape& shape) {
  Value* value = nullptr;
  void* data = nullptr;
  if (failed() || !keep(ort.output(context_, index, shape.lengths, shape.axes, &value))) return nullptr;
  return keep(ort.data(value, &data)) ? data : nullptr;
}

}  // namespace sao
