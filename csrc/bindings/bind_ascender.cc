// The class behind gradserve_server.kernels.Ascender: validate -> allocate -> release the GIL -> call.
#include <pybind11/stl.h>

#include <array>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bindings/arrays.h"
#include "bindings/bindings.h"
#include "bindings/settings.h"
#include "kernels/ascent.h"
#include "parallel.h"

namespace py = pybind11;

namespace gradserve {
namespace {

// More elements per sample than memory holds, few enough that no product below can overflow.
constexpr Index kMaxSampleElements = Index{1} << 40;

constexpr Named<Layout> kLayouts[] = {{"NCHW", Layout::nchw}, {"NHWC", Layout::nhwc}};
constexpr Named<Normalization> kNormalizations[] = {
    {"none", Normalization::none},      {"std", Normalization::std},           {"rms", Normalization::rms},
    {"l2", Normalization::l2},          {"mean_abs", Normalization::mean_abs}, {"sign", Normalization::sign},
    {"min_max", Normalization::min_max}};
constexpr Named<Optimizer> kOptimizers[] = {{"sgd", Optimizer::sgd},
                                            {"momentum", Optimizer::momentum},
                                            {"rmsprop", Optimizer::rmsprop},
                                            {"adam", Optimizer::adam},
                                            {"nadam", Optimizer::nadam}};

SampleShape checked_shape(const std::array<Index, 3>& shape) {
  Index left = kMaxSampleElements;
  for (const Index size : shape) {
    if (size < 1 || size > left) {
      refuse("sample_shape", "positive (channels, height, width) with at most 2**40 elements",
             std::string(py::str(py::cast(shape))));
    }
    left /= size;
  }
  return {.channels = shape[0], .height = shape[1], .width = shape[2]};
}

std::vector<float> checked_channels(py::handle value, const char* what, Index channels) {
  const py::array array = checked_array<float>(value, what, std::array{channels}, Access::read);
  const auto* values = static_cast<const float*>(array.data());
  std::vector<float> copy(values, values + channels);
  for (const float number : copy) {
    if (!std::isfinite(number)) refuse(what, "finite numbers", std::to_string(number));
  }
  return copy;
}

class Ascender {
 public:
  Ascender(AscentConfig config, Execution execution) : config_(std::move(config)), execution_(execution) {}

  void prepare(py::handle image, py::handle offsets, py::handle out) const {
    const py::array pixels = checked_array<float>(image, "image", image_shape(kAnySize), Access::read);
    const Index samples = pixels.shape(0);
    const py::array buffer = checked_array<float>(out, "out", buffer_shape(samples), Access::write);
    const py::object shifts = checked_offsets(offsets, samples);
    check_disjoint({"out", buffer}, {{"image", pixels}});

    const PrepareArrays arrays{.samples = samples,
                               .image = read<float>(pixels),
                               .offsets = read_or_null<std::int32_t>(shifts),
                               .buffer = write(buffer)};
    // The arrays above hold references until this function returns, and the kernels touch raw memory only: no
    // Python object is used without the GIL, and other requests run meanwhile.
    const py::gil_scoped_release release;
    gradserve::prepare(config_, execution_, arrays);
  }

  py::array_t<double> step(py::handle image, py::handle gradient, py::handle offsets, py::handle first_moment,
                           py::handle second_moment, Index step_number, double learning_rate,
                           double weight_decay) const {
    const py::array pixels = checked_array<float>(image, "image", image_shape(kAnySize), Access::write);
    const Index samples = pixels.shape(0);
    const py::array slopes = checked_array<float>(gradient, "gradient", buffer_shape(samples), Access::read);
    const py::object shifts = checked_offsets(offsets, samples);
    const bool has_first = has_first_moment(config_.optimizer);
    const bool has_second = has_second_moment(config_.optimizer);
    const py::object first = checked_moment(has_first, first_moment, "first_moment", samples);
    const py::object second = checked_moment(has_second, second_moment, "second_moment", samples);
    check_disjoint({"image", pixels}, {{"gradient", slopes}});
    for (const auto& [name, moment] :
         {std::pair{"first_moment", first}, std::pair{"second_moment", second}}) {
      if (moment.is_none()) continue;
      const auto array = py::reinterpret_borrow<py::array>(moment);
      check_disjoint({name, array}, {{"image", pixels}, {"gradient", slopes}});
    }
    if (has_first && has_second) {
      check_disjoint({"second_moment", py::reinterpret_borrow<py::array>(second)},
                     {{"first_moment", py::reinterpret_borrow<py::array>(first)}});
    }
    check_step_number(step_number);

    py::array_t<double> norms(samples);
    const StepArrays arrays{.samples = samples,
                            .image = write(pixels),
                            .gradient = read<float>(slopes),
                            .offsets = read_or_null<std::int32_t>(shifts),
                            .first_moment = write_or_null(first),
                            .second_moment = write_or_null(second),
                            .gradient_norms = norms.mutable_data()};
    {
      // As in prepare: references are held, the result is allocated, and only raw memory is touched.
      const py::gil_scoped_release release;
      gradserve::step(config_, execution_, arrays,
                      {.number = step_number, .learning_rate = learning_rate, .weight_decay = weight_decay});
    }
    return norms;
  }

  py::array_t<float> rule(Index step_number, double learning_rate, double weight_decay) const {
    check_step_number(step_number);
    const StepRule rule = step_rule(
        config_, {.number = step_number, .learning_rate = learning_rate, .weight_decay = weight_decay});
    const std::array numbers{rule.rate,  rule.gradient_rate,   rule.beta1,   rule.one_minus_beta1,
                             rule.beta2, rule.one_minus_beta2, rule.epsilon, rule.keep};
    return py::array_t<float>(static_cast<py::ssize_t>(numbers.size()), numbers.data());
  }

 private:
  static void check_step_number(Index number) {
    if (number < 1) refuse("step_number", "1 or more", std::to_string(number));
  }

  std::array<Index, 4> image_shape(Index samples) const {
    return {samples, config_.shape.channels, config_.shape.height, config_.shape.width};
  }

  std::array<Index, 4> buffer_shape(Index samples) const {
    if (config_.layout == Layout::nchw) return image_shape(samples);
    return {samples, config_.shape.height, config_.shape.width, config_.shape.channels};
  }

  static py::object checked_offsets(py::handle offsets, Index samples) {
    if (offsets.is_none()) return py::none();
    return checked_array<std::int32_t>(offsets, "offsets", std::array{samples, Index{2}}, Access::read);
  }

  py::object checked_moment(bool wanted, py::handle moment, const char* what, Index samples) const {
    if (!wanted) {
      if (!moment.is_none())
        throw py::type_error(std::string(what) + ": expected None for this optimizer, got an array");
      return py::none();
    }
    return checked_array<float>(moment, what, image_shape(samples), Access::write);
  }

  template <typename T>
  static const T* read(const py::array& array) {
    return static_cast<const T*>(array.data());
  }

  template <typename T>
  static const T* read_or_null(const py::object& array) {
    return array.is_none() ? nullptr : read<T>(py::reinterpret_borrow<py::array>(array));
  }

  // Only for arrays that passed checked_array with Access::write, so mutable_data() has nothing to refuse.
  static float* write(py::array array) { return static_cast<float*>(array.mutable_data()); }

  static float* write_or_null(const py::object& array) {
    return array.is_none() ? nullptr : write(py::reinterpret_borrow<py::array>(array));
  }

  AscentConfig config_;
  Execution execution_;
};

Ascender make_ascender(const std::array<Index, 3>& sample_shape, const std::string& layout, py::handle mean,
                       py::handle scale, const std::string& normalization, const std::string& optimizer,
                       double beta1, double beta2, double epsilon, bool epsilon_hat, bool nesterov,
                       double momentum_decay, double low, double high, const std::optional<std::string>& simd,
                       std::optional<int> threads) {
  const SampleShape shape = checked_shape(sample_shape);
  return {{.shape = shape,
           .layout = parse("layout", kLayouts, layout),
           .mean = checked_channels(mean, "mean", shape.channels),
           .scale = checked_channels(scale, "scale", shape.channels),
           .normalization = parse("normalization", kNormalizations, normalization),
           .optimizer = parse("optimizer", kOptimizers, optimizer),
           .beta1 = beta1,
           .beta2 = beta2,
           .epsilon = epsilon,
           .epsilon_hat = epsilon_hat,
           .nesterov = nesterov,
           .momentum_decay = momentum_decay,
           .low = static_cast<float>(low),
           .high = static_cast<float>(high)},
          {.kernels = find_target(simd), .threads = checked_threads(threads)}};
}

}  // namespace

void register_ascender(py::module_& module) {
  py::class_<Ascender>(module, "Ascender")
      .def(py::init(&make_ascender), py::kw_only(), py::arg("sample_shape"), py::arg("layout"),
           py::arg("mean"), py::arg("scale"), py::arg("normalization"), py::arg("optimizer"),
           py::arg("beta1"), py::arg("beta2"), py::arg("epsilon"), py::arg("epsilon_hat"),
           py::arg("nesterov"), py::arg("momentum_decay"), py::arg("low"), py::arg("high"), py::arg("simd"),
           py::arg("threads"))
      .def("prepare", &Ascender::prepare, py::arg("image"), py::arg("offsets"), py::arg("out"))
      .def("step", &Ascender::step, py::arg("image"), py::arg("gradient"), py::arg("offsets"),
           py::arg("first_moment"), py::arg("second_moment"), py::arg("step_number"),
           py::arg("learning_rate"), py::arg("weight_decay"))
      .def("rule", &Ascender::rule, py::arg("step_number"), py::arg("learning_rate"),
           py::arg("weight_decay"));
}

}  // namespace gradserve
