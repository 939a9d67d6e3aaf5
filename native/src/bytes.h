// Bytes that somebody else writes: memory as it comes, since to clear it first takes each of its
// pages, whether it will be written or not.
#ifndef SCULPTOR_BYTES_H_
#define SCULPTOR_BYTES_H_

#include <memory>
#include <vector>

namespace sculptor {

template <typename T>
struct AsItComes : std::allocator<T> {
  template <typename U>
  struct rebind {
    using other = AsItComes<U>;
  };
  template <typename U>
  void construct(U* at) {
    ::new (static_cast<void*>(at)) U;
  }
};

using Bytes = std::vector<char, AsItComes<char>>;

}  // namespace sculptor

#endif  // SCULPTOR_BYTES_H_
