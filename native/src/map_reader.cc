#include "map_reader.h"

#include <bpf/bpf.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

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

size_t CpusOf(Napi::Env env, bpf_map* map) {
  if (!IsPerCpu(map)) return 1;
  const int cpus = libbpf_num_possible_cpus();
  if (cpus < 0) throw SystemError(env, -cpus, "/sys/devices/system/cpu/possible");
  return cpus;
}

size_t Padded(size_t bytes) { return (bytes + 7) / 8 * 8; }

// The kernel pads each CPU's value to 8 bytes.
size_t ValueSize(bpf_map* map) {
  size_t size = bpf_map__value_size(map);
  return IsPerCpu(map) ? Padded(size) : size;
}

// All entries of a hash, some at a time: `each` gets how many, their keys and their values.
template <typename Each>
void ReadInRounds(Napi::Env env, bpf_map* map, bool take, Each each) {
  const auto read = take ? bpf_map_lookup_and_delete_batch : bpf_map_lookup_batch;
  // A round asks for 1 MB, or 16 entries: a value may be 1.4 KB for each of hundreds of CPUs.
  constexpr size_t kRoundBytes = 1 << 20;
  const size_t key_size = bpf_map__key_size(map);
  const size_t value_size = ValueSize(map) * CpusOf(env, map);
  const uint32_t most = bpf_map__max_entries(map);
  Bytes keys, values;
  uint32_t cursor = 0;
  uint32_t room = std::clamp<size_t>(kRoundBytes / value_size, 16, 512);
  bool first = true;
  // Each round that is not the last answers at least one entry; a hash that changes while it is
  // read may answer entries twice, and may not hold us for ever.
  for (uint32_t round = 0;; round++) {
    if (round > most + 64)
      throw SystemError(env, EBUSY, std::string("read map ") + bpf_map__name(map));
    keys.resize(room * key_size);
    values.resize(room * value_size);
    uint32_t count = room;
    uint32_t next = 0;
    int error = read(bpf_map__fd(map), first ? nullptr : &cursor, &next, keys.data(), values.data(),
                     &count, nullptr);
    // One bucket has more entries than there is room for: nothing was read yet.
    if (error && errno == ENOSPC) {
      room *= 2;
      continue;
    }
    if (error && errno != ENOENT) {
      throw SystemError(env, errno, std::string("read map ") + bpf_map__name(map));
    }
    each(count, keys.data(), values.data());
    if (error) break;
    cursor = next;
    first = false;
  }
}

// How many words a value has on each CPU.
size_t WordsOf(Napi::Env env, bpf_map* map) {
  const size_t size = bpf_map__value_size(map);
  if (size % sizeof(uint64_t))
    throw SystemError(env, EINVAL, std::string("words of map ") + bpf_map__name(map));
  return size / sizeof(uint64_t);
}

// Adds up what each of `cpus` has of a value: `words` words.
void SumOfCpus(const char* values, size_t cpus, size_t words, double* sums) {
  for (size_t word = 0; word < words; word++) {
    uint64_t sum = 0, part;
    for (size_t cpu = 0; cpu < cpus; cpu++) {
      memcpy(&part, values + (cpu * words + word) * sizeof(part), sizeof(part));
      sum += part;
    }
    sums[word] = static_cast<double>(sum);
  }
}

Napi::Float64Array DoublesOf(Napi::Env env, const double* numbers, size_t count) {
  Napi::Float64Array array = Napi::Float64Array::New(env, count);
  std::copy_n(numbers, count, array.Data());
  return array;
}

struct FileCloser {
  void operator()(FILE* file) const { fclose(file); }
};

// What a map or a program takes, as the kernel tells it of its descriptor.
double Memlock(Napi::Env env, int fd) {
  const std::string path = "/proc/self/fdinfo/" + std::to_string(fd);
  std::unique_ptr<FILE, FileCloser> file(fopen(path.c_str(), "re"));
  if (!file) throw SystemError(env, errno, "open " + path);
  char line[256];
  unsigned long long bytes;
  while (fgets(line, sizeof(line), file.get())) {
    if (sscanf(line, "memlock: %llu", &bytes) == 1) return bytes;
  }
  throw SystemError(env, ENODATA, "memlock in " + path);
}

}  // namespace

Napi::Value ReadWholeMap(Napi::Env env, bpf_map* map, bool take) {
  const size_t key_size = bpf_map__key_size(map);
  const size_t value_size = ValueSize(map) * CpusOf(env, map);
  Bytes all_keys, all_values;
  uint32_t total = 0;
  ReadInRounds(env, map, take, [&](uint32_t count, const char* keys, const char* values) {
    all_keys.insert(all_keys.end(), keys, keys + count * key_size);
    all_values.insert(all_values.end(), values, values + count * value_size);
    total += count;
  });
  Napi::Object result = Napi::Object::New(env);
  result.Set("count", total);
  result.Set("maxEntries", bpf_map__max_entries(map));
  result.Set("cpus", static_cast<double>(CpusOf(env, map)));
  result.Set("valueSize", static_cast<uint32_t>(ValueSize(map)));
  result.Set("keys", Napi::Buffer<char>::Copy(env, all_keys.data(), all_keys.size()));
  result.Set("values", Napi::Buffer<char>::Copy(env, all_values.data(), all_values.size()));
  return result;
}

Napi::Value SumWholeMap(Napi::Env env, bpf_map* map, bool take) {
  const size_t key_size = bpf_map__key_size(map);
  const size_t cpus = CpusOf(env, map);
  const size_t words = WordsOf(env, map);
  Bytes all_keys;
  std::vector<double> sums;
  uint32_t total = 0;
  ReadInRounds(env, map, take, [&](uint32_t count, const char* keys, const char* values) {
    all_keys.insert(all_keys.end(), keys, keys + count * key_size);
    sums.resize((total + count) * words);
    for (uint32_t entry = 0; entry < count; entry++)
      SumOfCpus(values + entry * cpus * words * sizeof(uint64_t), cpus, words,
                sums.data() + (total + entry) * words);
    total += count;
  });
  Napi::Object result = Napi::Object::New(env);
  result.Set("count", total);
  result.Set("maxEntries", bpf_map__max_entries(map));
  result.Set("width", static_cast<uint32_t>(words));
  result.Set("keys", Napi::Buffer<char>::Copy(env, all_keys.data(), all_keys.size()));
  result.Set("sums", DoublesOf(env, sums.data(), sums.size()));
  return result;
}

Napi::Value ReadWordOfMap(Napi::Env env, bpf_map* map, size_t word) {
  const size_t key_size = bpf_map__key_size(map);
  const size_t cpus = CpusOf(env, map);
  const size_t words = WordsOf(env, map);
  if (word >= words)
    throw SystemError(env, EINVAL, std::string("word of map ") + bpf_map__name(map));
  Bytes all_keys;
  std::vector<double> parts;
  ReadInRounds(env, map, false, [&](uint32_t count, const char* keys, const char* values) {
    all_keys.insert(all_keys.end(), keys, keys + count * key_size);
    uint64_t part;
    for (size_t each = 0; each < count * cpus; each++) {
      memcpy(&part, values + (each * words + word) * sizeof(part), sizeof(part));
      parts.push_back(static_cast<double>(part));
    }
  });
  Napi::Object result = Napi::Object::New(env);
  result.Set("count", static_cast<double>(parts.size() / cpus));
  result.Set("maxEntries", bpf_map__max_entries(map));
  result.Set("cpus", static_cast<double>(cpus));
  result.Set("keys", Napi::Buffer<char>::Copy(env, all_keys.data(), all_keys.size()));
  result.Set("words", DoublesOf(env, parts.data(), parts.size()));
  return result;
}

Napi::Value MapArrayMemory(Napi::Env env, bpf_map* map) {
  // As the kernel lays an array out.
  const size_t bytes = Padded(bpf_map__value_size(map)) * bpf_map__max_entries(map);
  void* memory = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, bpf_map__fd(map), 0);
  if (memory == MAP_FAILED) {
    throw SystemError(env, errno, std::string("memory of map ") + bpf_map__name(map));
  }
  return Napi::Buffer<char>::New(env, static_cast<char*>(memory), bytes,
                                 [bytes](Napi::Env, char* mapped) { munmap(mapped, bytes); });
}

Napi::Value LookupKey(Napi::Env env, bpf_map* map, Napi::Buffer<char> key) {
  if (key.Length() != bpf_map__key_size(map)) throw SystemError(env, EINVAL, "size of the key");
  Napi::Buffer<char> value = Napi::Buffer<char>::New(env, ValueSize(map) * CpusOf(env, map));
  if (bpf_map_lookup_elem(bpf_map__fd(map), key.Data(), value.Data()) == 0) return value;
  if (errno == ENOENT) return env.Null();
  throw SystemError(env, errno, std::string("look up in map ") + bpf_map__name(map));
}

Napi::Value SumKey(Napi::Env env, bpf_map* map, Napi::Buffer<char> key) {
  if (key.Length() != bpf_map__key_size(map)) throw SystemError(env, EINVAL, "size of the key");
  const size_t cpus = CpusOf(env, map);
  const size_t words = WordsOf(env, map);
  Bytes value(cpus * words * sizeof(uint64_t));
  if (bpf_map_lookup_elem(bpf_map__fd(map), key.Data(), value.data()) == 0) {
    std::vector<double> sums(words);
    SumOfCpus(value.data(), cpus, words, sums.data());
    return DoublesOf(env, sums.data(), words);
  }
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

double ObjectMemoryBytes(Napi::Env env, bpf_object* object) {
  double total = 0;
  bpf_map* map;
  bpf_object__for_each_map(map, object) total += Memlock(env, bpf_map__fd(map));
  bpf_program* program;
  bpf_object__for_each_program(program, object) {
    int fd = bpf_program__fd(program);
    // Less than 0: not among the programs that were asked for.
    if (fd >= 0) total += Memlock(env, fd);
  }
  return total;
}

}  // namespace sculptor
