// What the operators' kernels share: attributes, tensors, threads of the session.
#pragma once

#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

#include "ort/abi.h"

namespace gradserve::ort {

using Shape = std::vector<std::int64_t>;

inline std::string attribute_string(const Api& api, const KernelInfo* info, const char* name) {
  std::size_t size = 0;
  call<AttributeString>(api, info, name, static_cast<char*>(nullptr), &size);
  std::string text(size, '\0');
  call<AttributeString>(api, info, name, text.data(), &size);
  text.resize(size == 0 ? 0 : size - 1);  // without the terminator
  return text;
}

inline std::int64_t attribute_int(const Api& api, const KernelInfo* info, const char* name) {
  std::int64_t value = 0;
  call<AttributeInt>(api, info, name, &value);
  return value;
}

inline std::vector<std::int64_t> attribute_ints(const Api& api, const KernelInfo* info, const char* name) {
  std::size_t count = 0;
  call<AttributeInts>(api, info, name, static_cast<std::int64_t*>(nullptr), &count);
  std::vector<std::int64_t> values(count);
  call<AttributeInts>(api, info, name, values.data(), &count);
  return values;
}

struct Tensor {
  const float* data;
  Shape shape;
};

inline Tensor input(const Api& api, const KernelContext* context, std::size_t index) {
  const Value* value = nullptr;
  call<Input>(api, context, index, &value);
  if (value == nullptr)
    throw std::invalid_argument("input " + std::to_string(index) + ": expected a tensor, got none");
  ShapeInfo* info = nullptr;
  call<TensorShape>(api, value, &info);
  std::size_t rank = 0;
  call<DimensionsCount>(api, static_cast<const ShapeInfo*>(info), &rank);
  Shape shape(rank);
  call<Dimensions>(api, static_cast<const ShapeInfo*>(info), shape.data(), rank);
  ReleaseShapeInfo::call(api, info);
  void* data = nullptr;
  call<TensorData>(api, const_cast<Value*>(value), &data);
  return {.data = static_cast<const float*>(data), .shape = std::move(shape)};
}

inline float* output(const Api& api, KernelContext* context, std::size_t index, const Shape& shape) {
  Value* value = nullptr;
  call<Output>(api, context, index, shape.data(), shape.size(), &value);
  if (value == nullptr)
    throw std::invalid_argument("output " + std::to_string(index) + ": expected one, got none");
  void* data = nullptr;
  call<TensorData>(api, value, &data);
  return static_cast<float*>(data);
}

// Calls body(begin, end) for parts of [0, count), on the session's threads if the work is worth waking them.
template <typename Body>
void parallel(const Api& api, const KernelContext* context, std::int64_t count, bool worth,
              const Body& body) {
  constexpr std::int64_t kMostParts = 16;
  const std::int64_t parts = std::min(count, kMostParts);
  if (!worth || parts < 2) {
    if (count > 0) body(std::int64_t{0}, count);
    return;
  }
  struct Loop {
    const Body* body = nullptr;
    std::int64_t count = 0;
    std::int64_t parts = 0;
    std::atomic<bool> failed = false;
  } loop = {.body = &body, .count = count, .parts = parts};
  const auto part = [](void* opaque, std::size_t index) {
    Loop& of = *static_cast<Loop*>(opaque);
    const auto i = static_cast<std::int64_t>(index);
    const std::int64_t begin = i * of.count / of.parts;
    const std::int64_t end = (i + 1) * of.count / of.parts;
    try {  // onnxruntime's threads have nobody who would catch it
      (*of.body)(begin, end);
    } catch (...) {
      of.failed = true;
    }
  };
  call<ParallelFor>(api, context, static_cast<void (*)(void*, std::size_t)>(part),
                    static_cast<std::size_t>(parts), std::size_t{0}, static_cast<void*>(&loop));
  if (loop.failed) throw std::runtime_error("a thread failed: is there memory left?");
}

}  // namespace gradserve::ort
