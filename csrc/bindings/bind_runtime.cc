// SIMD targets and threads.
#include <string>

#include "bindings/bindings.h"
#include "kernels/targets.h"
#include "parallel.h"

namespace py = pybind11;

namespace gradserve {
namespace {

py::tuple simd_targets() {
  const auto targets = available_targets();
  py::tuple names(targets.size());
  for (std::size_t i = 0; i < targets.size(); ++i) names[i] = py::str(targets[i]->name);
  return names;
}

void checked_set_num_threads(int threads) {
  if (threads < 1 || threads > kMaxThreads) {
    throw py::value_error("threads: expected 1 to " + std::to_string(kMaxThreads) + ", got " +
                          std::to_string(threads));
  }
  set_num_threads(threads);
}

}  // namespace

void register_runtime(py::module_& module) {
  module.def("simd_targets", &simd_targets);
  module.def("num_threads", &num_threads);
  module.def("set_num_threads", &checked_set_num_threads, py::arg("threads"));
}

}  // namespace gradserve
