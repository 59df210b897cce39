// SPDX-License-Identifier: Apache-2.0

#include "pool/daemon/memory_reserve.h"

#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <new>

namespace brood {
namespace {

// The longest message, decoded and written out again, takes some 16 MiB.
constexpr std::size_t kPieces = 8;
constexpr std::size_t kPieceBytes = std::size_t{4} << 20;

std::array<std::atomic<void*>, kPieces> pieces;
std::atomic<bool> in_use = false;
std::atomic<bool> incomplete = false;

// Tries to have all pieces.
bool Complete() {
  for (std::atomic<void*>& piece : pieces) {
    if (piece.load() != nullptr) continue;
    void* const memory =
        mmap(nullptr, kPieceBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return false;
    void* expected = nullptr;
    if (!piece.compare_exchange_strong(expected, memory)) munmap(memory, kPieceBytes);
  }
  return true;
}

void GivePiece() {
  for (std::atomic<void*>& piece : pieces) {
    void* const memory = piece.exchange(nullptr);
    if (memory == nullptr) continue;
    incomplete = true;
    munmap(memory, kPieceBytes);
    return;
  }
  throw std::bad_alloc();
}

}  // namespace

MemoryReserve::MemoryReserve() {
  in_use = true;
  incomplete = !Complete();
  std::set_new_handler(GivePiece);
}

MemoryReserve::~MemoryReserve() {
  std::set_new_handler(nullptr);
  in_use = false;
  for (std::atomic<void*>& piece : pieces) {
    if (void* const memory = piece.exchange(nullptr)) munmap(memory, kPieceBytes);
  }
}

bool MemoryReserve::Short() {
  if (!in_use || !incomplete) return false;
  // Cleared first: a piece given meanwhile sets it again.
  incomplete = false;
  if (Complete()) return false;
  incomplete = true;
  return true;
}

}  // namespace brood
