#include "bindings/arrays.h"

#include <cstddef>

namespace py = pybind11;

namespace gradserve {
namespace {

std::string format_shape(std::span<const Index> shape) {
  std::string text = "[";
  for (const Index size : shape) {
    if (text.size() > 1) text += ',';
    text += size == kAnySize ? std::string("N") : std::to_string(size);
  }
  return text + "]";
}

bool is_aligned(const py::array& array) {
  return (array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0;
}

bool is_contiguous(const py::array& array) {
  return (array.flags() & py::array::c_style) != 0;
}

bool has_shape(const py::array& array, std::span<const Index> shape) {
  if (array.ndim() != static_cast<py::ssize_t>(shape.size())) return false;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] != kAnySize && shape[i] != array.shape(static_cast<py::ssize_t>(i))) return false;
  }
  return true;
}

[[noreturn]] void refuse(const py::array& array, const char* what, const py::dtype& dtype,
                         std::span<const Index> shape, Access access) {
  std::string message = std::string(what) + ": expected C-contiguous ";
  if (access == Access::write) message += "writable ";
  message += std::string(py::str(dtype)) + " " + format_shape(shape);
  std::vector<Index> actual(array.shape(), array.shape() + array.ndim());
  message += ", got ";
  if (!is_contiguous(array)) message += "non-contiguous ";
  if (!is_aligned(array)) message += "misaligned ";
  if (access == Access::write && !array.writeable()) message += "read-only ";
  message += std::string(py::str(array.dtype())) + " " + format_shape(actual);
  throw py::value_error(message);
}

}  // namespace

template <typename T>
py::array checked_array(py::handle value, const char* what, std::span<const Index> shape, Access access) {
  if (!py::isinstance<py::array>(value)) {
    throw py::type_error(std::string(what) + ": expected numpy.ndarray, got " +
                         std::string(py::str(py::type::handle_of(value).attr("__name__"))));
  }
  auto array = py::reinterpret_borrow<py::array>(value);
  if (!py::array_t<T, py::array::c_style>::check_(value) || !is_aligned(array) || !has_shape(array, shape) ||
      (access == Access::write && !array.writeable())) {
    refuse(array, what, py::dtype::of<T>(), shape, access);
  }
  return array;
}

template py::array checked_array<double>(py::handle, const char*, std::span<const Index>, Access);
template py::array checked_array<float>(py::handle, const char*, std::span<const Index>, Access);
template py::array checked_array<std::int32_t>(py::handle, const char*, std::span<const Index>, Access);

void check_disjoint(const Memory& written, std::initializer_list<Memory> others) {
  const auto* begin = static_cast<const std::byte*>(written.begin);
  for (const Memory& other : others) {
    const auto* other_begin = static_cast<const std::byte*>(other.begin);
    if (begin < other_begin + other.bytes && other_begin < begin + written.bytes) {
      throw py::value_error(std::string(written.what) +
                            ": expected memory of its own, got memory shared with " + other.what);
    }
  }
}

}  // namespace gradserve
