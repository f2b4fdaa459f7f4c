// The part of ONNX Runtime's C interface that these operators use.
//
// ONNX Runtime keeps its interface binary compatible: functions are only ever added to the end of its table, and members to the
// end of OrtCustomOp. So a few positions in the table and one struct are enough, and nothing has to be installed to compile this.
// The positions are those of onnxruntime_c_api.h at version 23.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(_WIN32)
#define SAO_CALL __stdcall
#define SAO_EXPORT extern "C" __declspec(dllexport)
#else
#define SAO_CALL
#define SAO_EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace sao {

constexpr uint32_t API_VERSION = 23;       // What is asked of ONNX Runtime: 1.23, and every later one.
constexpr uint32_t OPERATOR_VERSION = 17;  // The version whose last member is GetEndVersion.

// Things of ONNX Runtime that are only passed on.
struct Status;
struct SessionOptions;
struct Domain;
struct KernelInfo;
struct KernelContext;
struct Value;
struct ShapeInfo;
struct ShapeContext;

enum class Type : int { FLOAT = 1, UINT8 = 2, INT8 = 3, INT32 = 6 };  // ONNXTensorElementDataType
enum class Presence : int { REQUIRED = 0, OPTIONAL = 1 };  // OrtCustomOpInputOutputCharacteristic

struct ApiBase {
  const void* const*(SAO_CALL* get_api)(uint32_t version);
  const char*(SAO_CALL* get_version)();
};

struct CustomOp {  // OrtCustomOp
  uint32_t version;
  void*(SAO_CALL* create)(const CustomOp*, const void* const* api, const KernelInfo*);
  const char*(SAO_CALL* name)(const CustomOp*);
  const char*(SAO_CALL* provider)(const CustomOp*);
  Type(SAO_CALL* input_type)(const CustomOp*, size_t);
  size_t(SAO_CALL* input_count)(const CustomOp*);
  Type(SAO_CALL* output_type)(const CustomOp*, size_t);
  size_t(SAO_CALL* output_count)(const CustomOp*);
  void(SAO_CALL* compute)(void*, KernelContext*);
  void(SAO_CALL* destroy)(void*);
  Presence(SAO_CALL* input_presence)(const CustomOp*, size_t);
  Presence(SAO_CALL* output_presence)(const CustomOp*, size_t);
  int(SAO_CALL* input_memory)(const CustomOp*, size_t);
  int(SAO_CALL* variadic_input_least)(const CustomOp*);
  int(SAO_CALL* variadic_input_same)(const CustomOp*);
  int(SAO_CALL* variadic_output_least)(const CustomOp*);
  int(SAO_CALL* variadic_output_same)(const CustomOp*);
  Status*(SAO_CALL* create_checked)(const CustomOp*, const void* const* api, const KernelInfo*, void** kernel);
  Status*(SAO_CALL* compute_checked)(void*, KernelContext*);
  Status*(SAO_CALL* infer_shape)(const CustomOp*, ShapeContext*);
  int(SAO_CALL* first_version)(const CustomOp*);
  int(SAO_CALL* last_version)(const CustomOp*);
};

// A function of ONNX Runtime's table, with its position.
template <size_t position, typename Signature>
struct Entry;

template <size_t position, typename Result, typename... Arguments>
struct Entry<position, Result(Arguments...)> {
  Result(SAO_CALL* function)(Arguments...) = nullptr;
  void read(const void* const* api) {
    function = reinterpret_cast<Result(SAO_CALL*)(Arguments...)>(const_cast<void*>(api[position]));
  }
  Result operator()(Arguments... arguments) const { return function(arguments...); }
};

struct Api {
  Entry<0, Status*(int code, const char* message)> create_status;
  Entry<26, Status*(const char* name, Domain**)> create_domain;
  Entry<27, Status*(Domain*, const CustomOp*)> add_operator;
  Entry<28, Status*(SessionOptions*, Domain*)> add_domain;
  Entry<51, Status*(Value*, void** data)> data;
  Entry<61, Status*(const ShapeInfo*, size_t* count)> axes;
  Entry<62, Status*(const ShapeInfo*, int64_t* lengths, size_t count)> lengths;
  Entry<65, Status*(const Value*, ShapeInfo**)> shape;
  Entry<90, Status*(const KernelContext*, size_t, const Value**)> input;
  Entry<91, Status*(KernelContext*, size_t, const int64_t* lengths, size_t count, Value**)> output;
  Entry<93, void(Status*)> release_status;
  Entry<99, void(ShapeInfo*)> release_shape;
  Entry<163, Status*(const KernelInfo*, const char* name, int64_t* numbers, size_t* count)> attribute;
  Entry<249, Status*(const KernelInfo*, size_t, int* is_constant, const Value**)> constant;
  Entry<274, Status*(const KernelContext*, void (*)(void*, size_t), size_t total, size_t batches, void*)> parallel;

  void read(const void* const* api) {
    create_status.read(api);
    create_domain.read(api);
    add_operator.read(api);
    add_domain.read(api);
    data.read(api);
    axes.read(api);
    lengths.read(api);
    shape.read(api);
    input.read(api);
    output.read(api);
    release_status.read(api);
    release_shape.read(api);
    attribute.read(api);
    constant.read(api);
    parallel.read(api);
  }
};

extern Api ort;  // Filled in when the operators are registered.

}  // namespace sao
