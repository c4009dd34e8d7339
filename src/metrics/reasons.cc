#include "metrics/reasons.h"

#include <cerrno>

namespace ringmain {

ConnectFailure ConnectFailureFromErrno(int error) {
  switch (error) {
    case ECONNREFUSED:
    case EAGAIN:  // a unix socket's accept queue is full
    case ENOENT:  // a unix socket's path does not exist: nobody listens there
      return ConnectFailure::kRefused;
    case ETIMEDOUT:
      return ConnectFailure::kTimeout;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
    case EHOSTDOWN:
      return ConnectFailure::kUnreachable;
    case ECONNRESET:
    case EPIPE:
      return ConnectFailure::kReset;
    case EMFILE:
    case ENFILE:
      return ConnectFailure::kNoFiles;
    case EADDRNOTAVAIL:
      return ConnectFailure::kNoLocalAddress;
    default:
      return ConnectFailure::kOther;
  }
}

}  // namespace ringmain
