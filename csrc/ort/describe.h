// An operator as onnxruntime wants it described: float32 tensors on the CPU, one version.
#pragma once

#include "ort/abi.h"

namespace gradserve::ort {

enum class Inputs : std::uint8_t { two, variadic };

// `Kernel` is made from (api, info), and has compute(context) and api().
template <typename Kernel, Characteristic kOutputs = Characteristic::required>
CustomOp describe(const char* name, Inputs inputs) {
  // The interface passes the operator itself, which has no room for a name: one name for each kernel class.
  static const char* const known_name = name;
  CustomOp op = {};
  op.version = kApiVersion;
  op.name = [](const CustomOp*) { return known_name; };
  op.execution_provider = [](const CustomOp*) -> const char* { return nullptr; };
  op.input_type = [](const CustomOp*, std::size_t) { return ElementType::float32; };
  op.output_type = [](const CustomOp*, std::size_t) { return ElementType::float32; };
  op.output_count = [](const CustomOp*) -> std::size_t { return 1; };
  op.output_characteristic = [](const CustomOp*, std::size_t) { return kOutputs; };
  op.input_memory = [](const CustomOp*, std::size_t) { return MemoryType::default_memory; };
  if (inputs == Inputs::variadic) {
    op.input_count = [](const CustomOp*) -> std::size_t { return 1; };
    op.input_characteristic = [](const CustomOp*, std::size_t) { return Characteristic::variadic; };
  } else {
    op.input_count = [](const CustomOp*) -> std::size_t { return 2; };
    op.input_characteristic = [](const CustomOp*, std::size_t) { return Characteristic::required; };
  }
  op.variadic_input_least = [](const CustomOp*) { return 1; };
  op.variadic_input_same_type = [](const CustomOp*) { return 1; };
  op.variadic_output_least = [](const CustomOp*) { return 1; };
  op.variadic_output_same_type = [](const CustomOp*) { return 1; };
  op.create_kernel_or_fail = [](const CustomOp*, const Api* api, const KernelInfo* info, void** kernel) {
    return guarded(*api, [&] { *kernel = new Kernel(*api, info); });
  };
  op.compute_or_fail = [](void* opaque, KernelContext* context) {
    const auto* kernel = static_cast<const Kernel*>(opaque);
    return guarded(kernel->api(), [&] { kernel->compute(context); });
  };
  op.destroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  op.first_version = [](const CustomOp*) { return 1; };
  op.last_version = [](const CustomOp*) { return 1; };
  op.may_inplace = [](int**, int**) -> std::size_t { return 0; };
  op.release_may_inplace = [](int*, int*) {};
  op.aliases = [](int**, int**) -> std::size_t { return 0; };
  op.release_aliases = [](int*, int*) {};
  return op;
}

}  // namespace gradserve::ort
