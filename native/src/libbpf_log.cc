#include "libbpf_log.h"

#include <bpf/libbpf.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

namespace sculptor {
namespace {

// libbpf's print callback has no context argument; every call into the addon is on the main thread.
std::string libbpf_log;

int KeepLog(libbpf_print_level level, const char* format, va_list arguments) {
  if (level == LIBBPF_DEBUG) return 0;
  // The verifier's log comes as one message, of megabytes maybe: its end says what was refused.
  char* message = nullptr;
  const int length = vasprintf(&message, format, arguments);
  if (length < 0) return 0;
  libbpf_log.append(message, length);
  free(message);
  constexpr size_t kMostBytes = 64 * 1024;
  if (libbpf_log.size() > kMostBytes) libbpf_log.erase(0, libbpf_log.size() - kMostBytes);
  return 0;
}

}  // namespace

void KeepLibbpfLog() { libbpf_set_print(KeepLog); }

std::string TakeLibbpfLog() {
  std::string log;
  log.swap(libbpf_log);
  return log;
}

}  // namespace sculptor
