#include "bpf_constants.h"

#include <bpf/btf.h>
#include <linux/btf.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "errors.h"

namespace sculptor {
namespace {

// The bytes of a constant: a number as 64 bits little-endian, of which a shorter variable takes the
// lower ones; a buffer as it is, for the beginning of an array.
struct Constant {
  std::vector<char> bytes;
  bool is_number;
  bool Fits(size_t size) const { return is_number ? size <= bytes.size() : bytes.size() <= size; }
};

// Sets one `const volatile` variable: finds it by name in the BTF of .rodata.
void SetConstant(Napi::Env env, bpf_object* object, const std::string& name,
                 const Constant& constant) {
  bpf_map* map;
  bpf_object__for_each_map(map, object) {
    if (!strstr(bpf_map__name(map), ".rodata")) continue;
    size_t size = 0;
    char* data = static_cast<char*>(const_cast<void*>(bpf_map__initial_value(map, &size)));
    const btf* types = bpf_object__btf(object);
    const btf_type* section = btf__type_by_id(types, bpf_map__btf_value_type_id(map));
    if (!data || !section) continue;
    const btf_var_secinfo* variables = btf_var_secinfos(section);
    for (int i = 0; i < btf_vlen(section); i++) {
      const btf_type* variable = btf__type_by_id(types, variables[i].type);
      if (name != btf__name_by_offset(types, variable->name_off)) continue;
      if (!constant.Fits(variables[i].size) || variables[i].offset + variables[i].size > size)
        break;
      std::copy_n(constant.bytes.begin(),
                  std::min<size_t>(constant.bytes.size(), variables[i].size),
                  data + variables[i].offset);
      return;
    }
  }
  throw SystemError(env, ENOENT, "constant " + name);
}

uint64_t IntegerOf(const Napi::Value& value) {
  if (value.IsBoolean()) return value.As<Napi::Boolean>().Value();
  bool lossless;
  if (value.IsBigInt()) return value.As<Napi::BigInt>().Uint64Value(&lossless);
  return static_cast<uint64_t>(value.As<Napi::Number>().Int64Value());
}

Constant ConstantOf(const Napi::Value& value) {
  if (value.IsBuffer()) {
    Napi::Buffer<char> buffer = value.As<Napi::Buffer<char>>();
    return {{buffer.Data(), buffer.Data() + buffer.Length()}, false};
  }
  uint64_t number = IntegerOf(value);
  const char* bytes = reinterpret_cast<const char*>(&number);
  return {{bytes, bytes + sizeof(number)}, true};
}

}  // namespace

void SetConstants(bpf_object* object, const Napi::Object& constants) {
  for (const auto& entry : constants) {
    Napi::Value value = constants.Get(static_cast<Napi::Value>(entry.first));
    SetConstant(constants.Env(), object, entry.first.ToString(), ConstantOf(value));
  }
}

}  // namespace sculptor
