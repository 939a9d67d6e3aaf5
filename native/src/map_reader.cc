#include "map_reader.h"

#include <bpf/bpf.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>

#include "bytes.h"
#include "errors.h"

namespace sculptor {
namespace {

bool IsPerCpu(bpf_map* map) {
  switch (bpf_map__type(map)) {
    case BPF_MAP_TYPE_PERCPU_HASH:
    case BPF_MAP_TYPE_PERCPU_ARRAY:
    case BPF_MAP_TYPE_LRU_PERCPU_HASH:
      return true;
    default:
      return false;
  }
}

int CpusOf(bpf_map* map) { return IsPerCpu(map) ? libbpf_num_possible_cpus() : 1; }

struct FileCloser {
  void operator()(FILE* file) const { fclose(file); }
};

// The kernel pads each CPU's value to 8 bytes.
size_t ValueSize(bpf_map* map) {
  size_t size = bpf_map__value_size(map);
  return IsPerCpu(map) ? (size + 7) / 8 * 8 : size;
}

}  // namespace

Napi::Value ReadWholeMap(Napi::Env env, bpf_map* map, bool take) {
  const auto read = take ? bpf_map_lookup_and_delete_batch : bpf_map_lookup_batch;
  // A round asks for 1 MB: a value may be 1.3 KB for each of hundreds of CPUs.
  constexpr size_t kRoundBytes = 1 << 20;
  const size_t key_size = bpf_map__key_size(map);
  const int cpus = CpusOf(map);
  const size_t value_size = ValueSize(map) * cpus;
  const uint32_t most = bpf_map__max_entries(map);
  Bytes keys, values;
  uint32_t total = 0, cursor = 0;
  uint32_t room = std::clamp<size_t>(kRoundBytes / value_size, 16, 512);
  bool first = true;
  // Each round that is not the last answers at least one entry; a hash that changes while it is
  // read may answer entries twice, and may not hold us for ever.
  for (uint32_t round = 0;; round++) {
    if (round > most + 64)
      throw SystemError(env, EBUSY, std::string("read map ") + bpf_map__name(map));
    keys.resize((total + room) * key_size);
    values.resize((total + room) * value_size);
    uint32_t count = room;
    uint32_t next = 0;
    int error =
        read(bpf_map__fd(map), first ? nullptr : &cursor, &next, keys.data() + total * key_size,
             values.data() + total * value_size, &count, nullptr);
    // One bucket has more entries than there is room for: nothing was read yet.
    if (error && errno == ENOSPC) {
      room *= 2;
      continue;
    }
    if (error && errno != ENOENT) {
      throw SystemError(env, errno, std::string("read map ") + bpf_map__name(map));
    }
    total += count;
    if (error) break;
    cursor = next;
    first = false;
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("count", total);
  result.Set("cpus", cpus);
  result.Set("valueSize", static_cast<uint32_t>(ValueSize(map)));
  result.Set("keys", Napi::Buffer<char>::Copy(env, keys.data(), total * key_size));
  result.Set("values", Napi::Buffer<char>::Copy(env, values.data(), total * value_size));
  return result;
}

Napi::Value MapArrayMemory(Napi::Env env, bpf_map* map) {
  // As the kernel lays an array out.
  const size_t bytes = (bpf_map__value_size(map) + 7) / 8 * 8 * bpf_map__max_entries(map);
  void* memory = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, bpf_map__fd(map), 0);
  if (memory == MAP_FAILED) {
    throw SystemError(env, errno, std::string("memory of map ") + bpf_map__name(map));
  }
  return Napi::Buffer<char>::New(env, static_cast<char*>(memory), bytes,
                                 [bytes](Napi::Env, char* mapped) { munmap(mapped, bytes); });
}

Napi::Value LookupKey(Napi::Env env, bpf_map* map, Napi::Buffer<char> key) {
  if (key.Length() != bpf_map__key_size(map)) throw SystemError(env, EINVAL, "size of the key");
  Napi::Buffer<char> value = Napi::Buffer<char>::New(env, ValueSize(map) * CpusOf(map));
  if (bpf_map_lookup_elem(bpf_map__fd(map), key.Data(), value.Data()) == 0) return value;
  if (errno == ENOENT) return env.Null();
  throw SystemError(env, errno, std::string("look up in map ") + bpf_map__name(map));
}

Napi::Value DeleteMapKeys(Napi::Env env, bpf_map* map, Napi::Buffer<char> keys) {
  const size_t key_size = bpf_map__key_size(map);
  if (keys.Length() % key_size) throw SystemError(env, EINVAL, "size of the keys");
  uint32_t deleted = 0;
  for (size_t at = 0; at < keys.Length(); at += key_size) {
    if (bpf_map_delete_elem(bpf_map__fd(map), keys.Data() + at) == 0) {
      deleted++;
    } else if (errno != ENOENT) {
      throw SystemError(env, errno, std::string("delete from map ") + bpf_map__name(map));
    }
  }
  return Napi::Number::New(env, deleted);
}

double MapsMemoryBytes(bpf_object* object) {
  double total = 0;
  bpf_map* map;
  bpf_object__for_each_map(map, object) {
    char path[64], line[256];
    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", bpf_map__fd(map));
    std::unique_ptr<FILE, FileCloser> file(fopen(path, "re"));
    unsigned long long bytes;
    while (file && fgets(line, sizeof(line), file.get())) {
      if (sscanf(line, "memlock: %llu", &bytes) == 1) total += bytes;
    }
  }
  return total;
}

}  // namespace sculptor
