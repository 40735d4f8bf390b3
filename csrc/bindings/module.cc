#include "bindings/bindings.h"

PYBIND11_MODULE(_core, module, pybind11::mod_gil_not_used()) {
  module.doc() = "The compiled part of gradserve_server; use it through gradserve_server.kernels.";
  gradserve::register_runtime(module);
  gradserve::register_ascender(module);
  gradserve::register_fourier(module);
  gradserve::register_resampling(module);
}
