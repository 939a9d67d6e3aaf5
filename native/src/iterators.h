// Runs BPF iterators: programs that go over tasks, maps or mappings, and write.
#ifndef SCULPTOR_ITERATORS_H_
#define SCULPTOR_ITERATORS_H_

#include <bpf/libbpf.h>
#include <napi.h>

#include <string>

namespace sculptor {

// `over`: what it goes over; null: all there is. Null where it is refused, with errno.
bpf_link* AttachIterator(bpf_program* program, const bpf_iter_link_info* over);
// Runs it once and answers all that it wrote, as a Buffer. `name`: for who reads of an error.
Napi::Value ReadIterator(Napi::Env env, const std::string& name, bpf_link* link);
// The same on a thread of its own: a promise of the Buffer. The link may be gone before it ends.
Napi::Value ReadIteratorAside(Napi::Env env, const std::string& name, bpf_link* link);

}  // namespace sculptor

#endif  // SCULPTOR_ITERATORS_H_
