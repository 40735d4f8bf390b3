// The functions behind gradserve_server.kernels.resampling: validate -> allocate -> release the GIL -> call.
#include <pybind11/stl.h>

#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/settings.h"
#include "kernels/blur.h"
#include "kernels/warp.h"

namespace py = pybind11;

namespace gradserve {
namespace {

constexpr Named<Border> kBorders[] = {
    {"fill", Border::fill}, {"wrap", Border::wrap}, {"edge", Border::edge}, {"reflect", Border::reflect}};

constexpr std::array<Index, 4> kPlanes{kAnySize, kAnySize, kAnySize, kAnySize};

const float* read(const py::array& array) {
  return static_cast<const float*>(array.data());
}
float* write(py::array array) {
  return static_cast<float*>(array.mutable_data());
}

// Indices into a plane are int32.
PlaneSize checked_size(const char* what, const py::array& planes) {
  const PlaneSize size{.height = planes.shape(2), .width = planes.shape(3)};
  if (size.height < 1 || size.width < 1 ||
      size.height > std::numeric_limits<std::int32_t>::max() / size.width) {
    refuse(what, "planes of 1 to 2**31 - 1 values",
           "[" + std::to_string(size.height) + "," + std::to_string(size.width) + "]");
  }
  return size;
}

// Positions are largest at a corner, because the map is affine.
void check_positions(const double* matrices, Index samples, PlaneSize size) {
  for (Index row = 0; row < 2 * samples; ++row) {
    const double* m = matrices + 3 * row;
    const double reach = std::abs(m[0]) * static_cast<double>(size.height) +
                         std::abs(m[1]) * static_cast<double>(size.width) + std::abs(m[2]);
    if (!(reach <= kMaxPosition)) {
      refuse("matrices", "finite numbers that lead to positions within 1e9", std::to_string(reach));
    }
  }
}

// `source` and `out` are the planes before and after, whichever of them is written.
WarpTask warp_task(const py::array& source, const py::array& out, py::handle matrices,
                   const std::string& border, py::array& matrices_array,
                   const std::optional<std::string>& simd, std::optional<int> threads) {
  const Index samples = source.shape(0);
  matrices_array =
      checked_array<double>(matrices, "matrices", std::array<Index, 3>{samples, 2, 3}, Access::read);
  const WarpTask task{.kernels = find_target(simd),
                      .samples = samples,
                      .channels = source.shape(1),
                      .source_size = checked_size("source", source),
                      .size = checked_size("out", out),
                      .matrices = static_cast<const double*>(matrices_array.data()),
                      .border = parse("border", kBorders, border),
                      .fill = nullptr,
                      .threads = checked_threads(threads)};
  check_positions(task.matrices, samples, task.size);
  return task;
}

void warp_planes(py::handle source, py::handle matrices, const std::string& border, py::handle fill,
                 py::handle out, const std::optional<std::string>& simd, std::optional<int> threads) {
  const py::array from = checked_array<float>(source, "source", kPlanes, Access::read);
  const std::array<Index, 4> shape{from.shape(0), from.shape(1), kAnySize, kAnySize};
  const py::array to = checked_array<float>(out, "out", shape, Access::write);
  const py::array fills =
      checked_array<float>(fill, "fill", std::array<Index, 1>{from.shape(1)}, Access::read);
  check_disjoint({"out", to}, {{"source", from}});
  py::array maps;
  WarpTask task = warp_task(from, to, matrices, border, maps, simd, threads);
  task.fill = read(fills);
  float* result = write(to);
  const py::gil_scoped_release release;
  warp(task, read(from), result);
}

void warp_planes_adjoint(py::handle gradient, py::handle matrices, const std::string& border, py::handle out,
                         const std::optional<std::string>& simd, std::optional<int> threads) {
  const py::array from = checked_array<float>(gradient, "gradient", kPlanes, Access::read);
  const std::array<Index, 4> shape{from.shape(0), from.shape(1), kAnySize, kAnySize};
  const py::array to = checked_array<float>(out, "out", shape, Access::write);
  check_disjoint({"out", to}, {{"gradient", from}});
  py::array maps;
  const WarpTask task = warp_task(to, from, matrices, border, maps, simd, threads);
  float* result = write(to);
  const py::gil_scoped_release release;
  warp_adjoint(task, read(from), result);
}

template <auto kKernel>
void blur_planes(py::handle source, py::handle weights, const std::string& border, py::handle out,
                 std::optional<int> threads) {
  const py::array from = checked_array<float>(source, "source", kPlanes, Access::read);
  const std::array<Index, 4> shape{from.shape(0), from.shape(1), from.shape(2), from.shape(3)};
  const py::array to = checked_array<float>(out, "out", shape, Access::write);
  const py::array kernel =
      checked_array<float>(weights, "weights", std::array<Index, 2>{from.shape(0), kAnySize}, Access::read);
  check_disjoint({"out", to}, {{"source", from}, {"weights", kernel}});
  const Index taps = kernel.shape(1);
  if (taps % 2 == 0) refuse("weights", "an odd number for each sample", std::to_string(taps));
  const BlurTask task{.samples = from.shape(0),
                      .channels = from.shape(1),
                      .size = checked_size("source", from),
                      .weights = read(kernel),
                      .radius = taps / 2,
                      .border = parse("border", kBorders, border),
                      .threads = checked_threads(threads)};
  std::vector<float> scratch(static_cast<std::size_t>(from.size()));
  float* result = write(to);
  const py::gil_scoped_release release;
  kKernel(task, read(from), scratch.data(), result);
}

}  // namespace

void register_resampling(py::module_& module) {
  module.def("warp", &warp_planes, py::arg("source"), py::arg("matrices"), py::arg("border"), py::arg("fill"),
             py::arg("out"), py::arg("simd"), py::arg("threads"));
  module.def("warp_adjoint", &warp_planes_adjoint, py::arg("gradient"), py::arg("matrices"),
             py::arg("border"), py::arg("out"), py::arg("simd"), py::arg("threads"));
  module.def("blur", &blur_planes<&blur>, py::arg("source"), py::arg("weights"), py::arg("border"),
             py::arg("out"), py::arg("threads"));
  module.def("blur_adjoint", &blur_planes<&blur_adjoint>, py::arg("gradient"), py::arg("weights"),
             py::arg("border"), py::arg("out"), py::arg("threads"));
}

}  // namespace gradserve
