// NumPy arrays checked before a kernel may see their memory.
//
// Every check ends in a message of the form `what: expected ..., got ...`.
#pragma once

#include <pybind11/numpy.h>

#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "kernels/types.h"

namespace gradserve {

enum class Access : std::uint8_t { read, write };

// In an expected shape: any size, shown as N.
inline constexpr Index kAnySize = -1;

// The array behind `value`, or TypeError / ValueError unless it is a C-contiguous, aligned array of T in
// native byte order with the expected shape, and writable where it will be written.
template <typename T>
pybind11::array checked_array(pybind11::handle value, const char* what, std::span<const Index> shape,
                              Access access);

// A range of memory that a call uses, and its name in messages.
struct Memory {
  const char* what;
  const void* begin;
  pybind11::ssize_t bytes;

  Memory(const char* name, const pybind11::array& array)
      : what(name), begin(array.data()), bytes(array.nbytes()) {}
};

// ValueError if `written` shares memory with one of the others: the kernels promise the compiler they do not.
void check_disjoint(const Memory& written, std::initializer_list<Memory> others);

}  // namespace gradserve
