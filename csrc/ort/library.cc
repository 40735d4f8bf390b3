// What onnxruntime looks for in the library: SessionOptions.register_custom_ops_library(path).

#include "ort/operators.h"

using gradserve::ort::AddDomain;
using gradserve::ort::AddToDomain;
using gradserve::ort::Api;
using gradserve::ort::ApiBase;
using gradserve::ort::CreateCustomOpDomain;
using gradserve::ort::CustomOpDomain;
using gradserve::ort::SessionOptions;
using gradserve::ort::Status;

// NOLINTNEXTLINE(readability-identifier-naming): onnxruntime looks for this name.
extern "C" [[gnu::visibility("default")]] Status* RegisterCustomOps(SessionOptions* options,
                                                                    const ApiBase* base) {
  const Api* api = base->get_api(gradserve::ort::kApiVersion);
  // An older onnxruntime has no such interface, nor a way to say so but this: it finds the operators missing.
  if (api == nullptr) return nullptr;
  return gradserve::ort::guarded(*api, [&] {
    // One domain for all sessions: it must outlive them, and there is no later moment to let it go.
    static CustomOpDomain* const domain = [&] {
      CustomOpDomain* made = nullptr;
      gradserve::ort::call<CreateCustomOpDomain>(*api, "gradserve", &made);
      for (const auto* op :
           {gradserve::ort::fused_operator(), gradserve::ort::image_gradient_operator(),
            gradserve::ort::interleave_operator(), gradserve::ort::max_pool_gradient_operator()}) {
        gradserve::ort::call<AddToDomain>(*api, made, op);
      }
      return made;
    }();
    gradserve::ort::call<AddDomain>(*api, options, domain);
  });
}
