// The class behind gradserve_server.kernels.Fourier: validate -> release the GIL -> call.
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/settings.h"
#include "kernels/fourier.h"

namespace py = pybind11;

namespace gradserve {
namespace {

// Few enough that no product below can overflow.
constexpr Index kMaxPixels = std::numeric_limits<std::int32_t>::max();

std::vector<Index> checked_sizes(std::vector<Index> sizes) {
  Index left = kMaxPixels;
  for (const Index size : sizes) {
    if (size < 1 || size > left) left = 0;
    if (left > 0) left /= size;
  }
  if (sizes.empty() || left < 1) {
    refuse("sizes", "one or more, of 1 to 2**31 - 1 pixels", std::string(py::str(py::cast(sizes))));
  }
  return sizes;
}

class BoundFourier {
 public:
  BoundFourier(const std::vector<Index>& sizes, const std::optional<std::string>& simd,
               std::optional<int> threads)
      : fourier_(checked_sizes(sizes)), kernels_(find_target(simd)), threads_(checked_threads(threads)) {}

  void inverse(py::handle parts, py::handle scale, py::handle image) const {
    const Arrays arrays = checked(parts, scale, image, Access::read, Access::write);
    check_disjoint({"image", arrays.image}, {{"parts", arrays.parts}, {"scale", arrays.scale}});
    auto* const out = static_cast<float*>(py::array(arrays.image).mutable_data());
    const py::gil_scoped_release release;
    fourier_.inverse(*kernels_, arrays.image.shape(0), arrays.image.shape(1), read(arrays.parts),
                     read(arrays.scale), out, threads_);
  }

  void forward(py::handle image, py::handle scale, py::handle parts) const {
    const Arrays arrays = checked(parts, scale, image, Access::write, Access::read);
    check_disjoint({"parts", arrays.parts}, {{"image", arrays.image}, {"scale", arrays.scale}});
    auto* const out = static_cast<float*>(py::array(arrays.parts).mutable_data());
    const py::gil_scoped_release release;
    fourier_.forward(*kernels_, arrays.image.shape(0), arrays.image.shape(1), read(arrays.image),
                     read(arrays.scale), out, threads_);
  }

 private:
  struct Arrays {
    py::array parts;
    py::array scale;
    py::array image;
  };

  static const float* read(const py::array& array) { return static_cast<const float*>(array.data()); }

  [[nodiscard]] Arrays checked(py::handle parts, py::handle scale, py::handle image, Access to_parts,
                               Access to_image) const {
    const std::array<Index, 3> pixels{kAnySize, kAnySize, fourier_.pixels()};
    const py::array images = checked_array<float>(image, "image", pixels, to_image);
    const std::array<Index, 4> numbers{images.shape(0), 2, images.shape(1), fourier_.numbers()};
    const std::array<Index, 1> factors{fourier_.numbers()};
    return {.parts = checked_array<float>(parts, "parts", numbers, to_parts),
            .scale = checked_array<float>(scale, "scale", factors, Access::read),
            .image = images};
  }

  Fourier fourier_;
  const KernelTable* kernels_;
  int threads_;
};

}  // namespace

void register_fourier(py::module_& module) {
  py::class_<BoundFourier>(module, "Fourier")
      .def(py::init<const std::vector<Index>&, const std::optional<std::string>&, std::optional<int>>(),
           py::kw_only(), py::arg("sizes"), py::arg("simd"), py::arg("threads"))
      .def("inverse", &BoundFourier::inverse, py::arg("parts"), py::arg("scale"), py::arg("image"))
      .def("forward", &BoundFourier::forward, py::arg("image"), py::arg("scale"), py::arg("parts"));
}

}  // namespace gradserve
