#include "file_pages.h"

#include <sys/mman.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "errors.h"

namespace sculptor {
namespace {

struct Mapping {
  uintptr_t start;
  uintptr_t end;
  size_t resident;
  // What was written to a private page is nowhere but in it: relocated data, for one.
  bool holds_own;
};

// "7f00-7f01 r-xp 00000000 08:01 1234 /path": private, of a file, and not to be written to.
bool IsFile(const std::string& line, Mapping* mapping) {
  char mode[5];
  uint64_t inode;
  int fields = sscanf(line.c_str(), "%" SCNxPTR "-%" SCNxPTR " %4s %*x %*x:%*x %" SCNu64,
                      &mapping->start, &mapping->end, mode, &inode);
  return fields == 4 && mode[1] == '-' && mode[3] == 'p' && inode != 0;
}

size_t Bytes(const std::string& line) {
  return strtoull(line.c_str() + line.find(':') + 1, nullptr, 10) * 1024;
}

std::vector<Mapping> FileMappings(std::istream& smaps) {
  std::vector<Mapping> mappings;
  bool is_file = false;
  for (std::string line; std::getline(smaps, line);) {
    // Fields of a mapping are "Name: …"; its own line begins with an address.
    if (line.find(':') > line.find(' ')) {
      Mapping mapping = {};
      is_file = IsFile(line, &mapping);
      if (is_file) mappings.push_back(mapping);
    } else if (is_file && line.rfind("Rss:", 0) == 0) {
      mappings.back().resident = Bytes(line);
    } else if (is_file && (line.rfind("Anonymous:", 0) == 0 || line.rfind("Locked:", 0) == 0)) {
      mappings.back().holds_own |= Bytes(line) > 0;
    }
  }
  return mappings;
}

}  // namespace

Napi::Value DropFilePages(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::ifstream smaps("/proc/self/smaps");
  if (!smaps) throw SystemError(env, errno, "/proc/self/smaps");
  size_t dropped = 0;
  for (const Mapping& mapping : FileMappings(smaps)) {
    if (mapping.holds_own || mapping.resident == 0) continue;
    void* start = reinterpret_cast<void*>(mapping.start);
    if (madvise(start, mapping.end - mapping.start, MADV_DONTNEED) != 0) {
      throw SystemError(env, errno, "MADV_DONTNEED");
    }
    dropped += mapping.resident;
  }
  return Napi::Number::New(env, static_cast<double>(dropped));
}

}  // namespace sculptor
