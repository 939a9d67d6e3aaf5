// Reads BPF maps in batches: one by one costs ten times as much.
#ifndef SCULPTOR_MAP_READER_H_
#define SCULPTOR_MAP_READER_H_

#include <bpf/libbpf.h>
#include <napi.h>

namespace sculptor {

// `take`: what is read is deleted with it.
Napi::Value ReadWholeMap(Napi::Env env, bpf_map* map, bool take);
// Of values that are words of 64 bits: their sums over all CPUs, as doubles. Of many CPUs the
// values themselves may be tens of megabytes.
Napi::Value SumWholeMap(Napi::Env env, bpf_map* map, bool take);
// Of the same a single word, as each CPU has it.
Napi::Value ReadWordOfMap(Napi::Env env, bpf_map* map, size_t word);
// The values of an array that was made with BPF_F_MMAPABLE, as the programs write them. It outlives
// the map's descriptor, and is unmapped when nothing refers to it any more.
Napi::Value MapArrayMemory(Napi::Env env, bpf_map* map);
Napi::Value LookupKey(Napi::Env env, bpf_map* map, Napi::Buffer<char> key);
Napi::Value SumKey(Napi::Env env, bpf_map* map, Napi::Buffer<char> key);
Napi::Value DeleteMapKeys(Napi::Env env, bpf_map* map, Napi::Buffer<char> keys);
// Of all maps and programs that are loaded.
double ObjectMemoryBytes(Napi::Env env, bpf_object* object);

}  // namespace sculptor

#endif  // SCULPTOR_MAP_READER_H_
