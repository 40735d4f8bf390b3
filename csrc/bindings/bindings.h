// One register function per topic; module.cc only calls them.
#pragma once

#include <pybind11/pybind11.h>

namespace gradserve {

void register_ascender(pybind11::module_& module);
void register_fourier(pybind11::module_& module);
void register_resampling(pybind11::module_& module);
void register_runtime(pybind11::module_& module);

}  // namespace gradserve
