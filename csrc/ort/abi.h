// The part of onnxruntime's C interface that a library of custom operators needs.
//
// onnxruntime's wheels bring no headers, but the interface is an array of functions to which releases only
// append, so a place in it is a fact that does not change. The places below are those of version 18 (release
// 1.18, the first that lets a custom operator write its result over an operand) and of every later one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace gradserve::ort {

inline constexpr std::uint32_t kApiVersion = 18;

// Opaque to us.
struct Status;
struct SessionOptions;
struct CustomOpDomain;
struct KernelInfo;
struct KernelContext;
struct Value;
struct ShapeInfo;

// NOLINTBEGIN(performance-enum-size): the interface's are ints.
enum class ElementType : int { float32 = 1 };
enum class Characteristic : int { required = 0, variadic = 2 };
enum class MemoryType : int { default_memory = 0 };
enum class ErrorCode : int { fail = 1, invalid_argument = 2 };
// NOLINTEND(performance-enum-size)

// The interface: functions, by their places.
struct Api {
  const void* functions[280];
};

struct ApiBase {
  const Api* (*get_api)(std::uint32_t version);
  const char* (*version)();
};

// What an operator is. Layout of version 18.
struct CustomOp {
  std::uint32_t version;
  void* (*create_kernel)(const CustomOp*, const Api*, const KernelInfo*);
  const char* (*name)(const CustomOp*);
  const char* (*execution_provider)(const CustomOp*);
  ElementType (*input_type)(const CustomOp*, std::size_t);
  std::size_t (*input_count)(const CustomOp*);
  ElementType (*output_type)(const CustomOp*, std::size_t);
  std::size_t (*output_count)(const CustomOp*);
  void (*compute)(void* kernel, KernelContext*);
  void (*destroy)(void* kernel);
  Characteristic (*input_characteristic)(const CustomOp*, std::size_t);
  Characteristic (*output_characteristic)(const CustomOp*, std::size_t);
  MemoryType (*input_memory)(const CustomOp*, std::size_t);
  int (*variadic_input_least)(const CustomOp*);
  int (*variadic_input_same_type)(const CustomOp*);
  int (*variadic_output_least)(const CustomOp*);
  int (*variadic_output_same_type)(const CustomOp*);
  Status* (*create_kernel_or_fail)(const CustomOp*, const Api*, const KernelInfo*, void** kernel);
  Status* (*compute_or_fail)(void* kernel, KernelContext*);
  Status* (*infer_shapes)(const CustomOp*, void*);
  int (*first_version)(const CustomOp*);
  int (*last_version)(const CustomOp*);
  std::size_t (*may_inplace)(int** inputs, int** outputs);
  void (*release_may_inplace)(int* inputs, int* outputs);
  std::size_t (*aliases)(int** inputs, int** outputs);
  void (*release_aliases)(int* inputs, int* outputs);
};

// Places of functions, with their types.
template <int kPlace, typename Signature>
struct Function;

template <int kPlace, typename Result, typename... Arguments>
struct Function<kPlace, Result(Arguments...)> {
  static Result call(const Api& api, Arguments... arguments) {
    return reinterpret_cast<Result (*)(Arguments...)>(const_cast<void*>(api.functions[kPlace]))(arguments...);
  }
};

using CreateStatus = Function<0, Status*(ErrorCode, const char*)>;
using ErrorMessage = Function<2, const char*(const Status*)>;
using CreateCustomOpDomain = Function<26, Status*(const char*, CustomOpDomain**)>;
using AddToDomain = Function<27, Status*(CustomOpDomain*, const CustomOp*)>;
using AddDomain = Function<28, Status*(SessionOptions*, CustomOpDomain*)>;
using TensorData = Function<51, Status*(Value*, void**)>;
using DimensionsCount = Function<61, Status*(const ShapeInfo*, std::size_t*)>;
using Dimensions = Function<62, Status*(const ShapeInfo*, std::int64_t*, std::size_t)>;
using TensorShape = Function<65, Status*(const Value*, ShapeInfo**)>;
using AttributeInt = Function<86, Status*(const KernelInfo*, const char*, std::int64_t*)>;
using AttributeString = Function<87, Status*(const KernelInfo*, const char*, char*, std::size_t*)>;
using InputCount = Function<88, Status*(const KernelContext*, std::size_t*)>;
using OutputCount = Function<89, Status*(const KernelContext*, std::size_t*)>;
using Input = Function<90, Status*(const KernelContext*, std::size_t, const Value**)>;
using Output = Function<91, Status*(KernelContext*, std::size_t, const std::int64_t*, std::size_t, Value**)>;
using ReleaseStatus = Function<93, void(Status*)>;
using ReleaseShapeInfo = Function<99, void(ShapeInfo*)>;
using AttributeInts = Function<163, Status*(const KernelInfo*, const char*, std::int64_t*, std::size_t*)>;
using ParallelFor = Function<274, Status*(const KernelContext*, void (*)(void*, std::size_t), std::size_t,
                                          std::size_t, void*)>;

// Calls a function that answers with a status. Throws std::runtime_error with its message.
template <typename Call, typename... Arguments>
void call(const Api& api, Arguments... arguments) {
  Status* status = Call::call(api, arguments...);
  if (status == nullptr) return;
  const std::string message = ErrorMessage::call(api, status);
  ReleaseStatus::call(api, status);
  throw std::runtime_error(message);
}

// Calls `body`; what it throws becomes the status that onnxruntime expects instead.
template <typename Body>
Status* guarded(const Api& api, const Body& body) {
  try {
    body();
    return nullptr;
  } catch (const std::invalid_argument& error) {
    return CreateStatus::call(api, ErrorCode::invalid_argument, error.what());
  } catch (const std::exception& error) {
    return CreateStatus::call(api, ErrorCode::fail, error.what());
  }
}

}  // namespace gradserve::ort
