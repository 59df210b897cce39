// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/async_calls.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "pool/functions/call_id.h"
#include "pool/functions/call_json.h"
#include "pool/functions/kept_head.h"
#include "pool/http/later.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

// A function's callers who wait come and go without telling; so does a function that was missing.
constexpr auto kLookEvery = std::chrono::milliseconds(100);
constexpr auto kTryDiskEvery = std::chrono::seconds(1);
constexpr std::size_t kMostListed = 1000;

std::int64_t WallUs() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

void AnswerText(HttpConnection& connection, int status, std::string_view text, Fields fields = {}) {
  fields.emplace_back("Content-Type", "text/plain");
  if (status == 429 || status == 503) fields.emplace_back("Retry-After", "1");
  connection.Answer(status, std::move(fields), fmt::format("{}\n", text));
}

}  // namespace

// The body of a call that is to be kept, as it arrives.
class AsyncCalls::AsyncBody : public Exchange, public std::enable_shared_from_this<AsyncBody> {
 public:
  AsyncBody(AsyncCalls& calls, HttpConnection& connection, std::string function, std::string head,
            std::uint64_t reserved, std::uint64_t limit)
      : calls_(calls),
        connection_(&connection),
        function_(std::move(function)),
        request_{std::move(head), ""},
        reserved_(reserved),
        limit_(limit) {
    ++calls_.accepting_;
    calls_.bodies_ += reserved_;
  }
  ~AsyncBody() override {
    --calls_.accepting_;
    calls_.bodies_ -= reserved_;
  }
  AsyncBody(const AsyncBody&) = delete;
  AsyncBody& operator=(const AsyncBody&) = delete;

  void OnBody(std::string_view bytes) override {
    if (connection_ == nullptr) return;
    request_.body += bytes;
    if (request_.body.size() <= limit_) return;
    AnswerText(*Take(), 413, fmt::format("the body is longer than {} bytes", limit_),
               {{"Brood-End", "refused"}});
  }
  void OnBodyEnd() override {
    if (connection_ != nullptr) calls_.Keep(shared_from_this());
  }
  bool full() const override { return false; }
  void OnDrained() override {}
  void OnGone() override { connection_ = nullptr; }

  HttpConnection* Take() { return std::exchange(connection_, nullptr); }
  const KeptRequest& request() const { return request_; }
  const std::string& function() const { return function_; }

 private:
  AsyncCalls& calls_;
  HttpConnection* connection_;
  std::string function_;
  KeptRequest request_;
  std::uint64_t reserved_;
  std::uint64_t limit_;
};

absl::Status AsyncCalls::Open(std::unique_ptr<CallStore> store) {
  BROOD_ASSIGN_OR_RETURN(const std::vector<CallStore::Waiting> left, store->Recover(WallUs()));
  for (const CallStore::Waiting& each : left) queues_[each.function].ids.push_back(each.id);
  waiting_ = left.size();
  store_ = std::make_unique<CallStoreThread>(pool_, std::move(store));
  return store_->Start();
}

void AsyncCalls::Start(FindFunction find) {
  find_ = std::move(find);
  Sweep();
  Tick();
}

void AsyncCalls::Close() {
  closed_ = draining_ = true;
  for (const auto& [id, run] : std::exchange(runs_, {})) run->Drop();
}

std::shared_ptr<Exchange> AsyncCalls::Accept(HttpConnection& connection, const RequestHead& head,
                                             std::string_view path,
                                             const FunctionOptions& function) {
  const std::uint64_t limit = std::min(function.max_body, kMaxBody);
  const std::uint64_t told = head.has_body ? head.content_length.value_or(limit) : std::uint64_t{0};
  if (told > limit) {
    AnswerText(connection, 413, fmt::format("an asynchronous call takes {} bytes at most", limit),
               {{"Brood-End", "refused"}});
  } else if (waiting_ + busy_ + accepting_ >= options_.max_calls) {
    AnswerText(connection, 429,
               fmt::format("{} calls wait or run already: there is no room for more",
                           waiting_ + busy_ + accepting_),
               {{"Brood-End", "refused"}});
  } else if (bodies_ + told > kMaxBodies) {
    AnswerText(connection, 503, "too much waits to be written to disk", {{"Brood-End", "refused"}});
  } else {
    auto body = std::make_shared<AsyncBody>(
        *this, connection, function.name,
        KeptHeadToJson({head, std::string(path), connection.peer()}), told, limit);
    if (head.expects_continue) connection.Continue();
    return body;
  }
  return nullptr;
}

// Only what is on disk has been accepted.
void AsyncCalls::Keep(const std::shared_ptr<AsyncBody>& body) {
  // Whoever knows it may read what came of the call.
  const std::string id = RandomDigits();
  const auto add = [body, id](CallStore& store) {
    return store.Add(id, body->function(), body->request(), WallUs());
  };
  store_->Add(add, [this, body, id](const absl::Status& kept) {
    HttpConnection* const connection = body->Take();
    if (!kept.ok()) {
      options_.complain(Message(kept));
      if (connection != nullptr) {
        AnswerText(*connection, 503, "the call could not be kept", {{"Brood-End", "refused"}});
      }
      return;
    }
    queues_[body->function()].ids.push_back(id);
    ++waiting_;
    if (connection != nullptr) {
      const nlohmann::ordered_json text = {{"id", id}, {"state", kCallWaiting}};
      connection->Answer(
          202, {{"Location", fmt::format("/calls/{}", id)}, {"Content-Type", "application/json"}},
          text.dump(2) + "\n");
    }
    Pump();
  });
}

std::shared_ptr<Exchange> AsyncCalls::Tell(
    HttpConnection& connection, const std::string& id,
    std::function<bool(const std::string& function)> may_know) {
  auto later = std::make_shared<LaterAnswer>(connection);
  auto found = std::make_shared<std::optional<StoredCall>>();
  const auto find = [id, found](CallStore& store) -> absl::Status {
    BROOD_ASSIGN_OR_RETURN(*found, store.Find(id));
    return absl::OkStatus();
  };
  const auto tell = [this, later, found, may_know = std::move(may_know)](const absl::Status& read) {
    if (!read.ok()) options_.complain(Message(read));
    if (*found && may_know && !may_know((*found)->function)) found->reset();
    HttpConnection* const to = later->Take();
    if (to == nullptr) return;
    if (!read.ok()) return AnswerText(*to, 503, "the calls cannot be read");
    if (!*found)
      return AnswerText(*to, 404, "there is no call with that id, or it is no longer kept");
    to->Answer(200, {{"Content-Type", "application/json"}}, CallToJson(**found));
  };
  store_->Add(find, tell);
  return later;
}

std::shared_ptr<Exchange> AsyncCalls::TellAll(HttpConnection& connection) {
  auto later = std::make_shared<LaterAnswer>(connection);
  auto found = std::make_shared<std::vector<StoredCall>>();
  const auto find = [found](CallStore& store) -> absl::Status {
    BROOD_ASSIGN_OR_RETURN(*found, store.List(kMostListed));
    return absl::OkStatus();
  };
  store_->Add(find, [this, later, found](const absl::Status& read) {
    if (!read.ok()) options_.complain(Message(read));
    HttpConnection* const to = later->Take();
    if (to == nullptr) return;
    if (!read.ok()) return AnswerText(*to, 503, "the calls cannot be read");
    to->Answer(200, {{"Content-Type", "application/json"}}, CallsToJson(*found));
  });
  return later;
}

const std::string* AsyncCalls::FunctionOf(std::string_view id) const {
  for (const auto& [name, queue] : queues_) {
    if (std::find(queue.ids.begin(), queue.ids.end(), id) != queue.ids.end()) return &name;
  }
  return nullptr;
}

std::shared_ptr<Exchange> AsyncCalls::Cancel(HttpConnection& connection, const std::string& id) {
  auto later = std::make_shared<LaterAnswer>(connection);
  Queue& queue = queues_[*FunctionOf(id)];
  std::erase(queue.ids, id);
  --waiting_;
  Insist([id](CallStore& store) { return store.Cancel(id, WallUs()); },
         [later] {
           if (HttpConnection* const to = later->Take()) to->Answer(204, {}, "");
         });
  return later;
}

// The oldest of each function first, as many as it has places for beside callers who wait.
void AsyncCalls::Pump() {
  if (draining_ || !find_) return;
  for (auto& [name, queue] : queues_) {
    while (!queue.ids.empty()) {
      const std::shared_ptr<FunctionPool> function = find_(name);
      if (function && !HasRoom(queue, *function)) break;
      const std::string id = std::move(queue.ids.front());
      queue.ids.pop_front();
      ++queue.begun;
      --waiting_;
      ++busy_;
      Begin(name, id);
    }
  }
}

bool AsyncCalls::HasRoom(const Queue& queue, const FunctionPool& function) const {
  const std::uint32_t places = function.options().concurrency;
  return queue.begun < places && function.running() < places && function.queued() == 0;
}

// The attempt is on disk before it is made: one that ends the daemon has counted.
void AsyncCalls::Begin(const std::string& name, const std::string& id) {
  auto request = std::make_shared<KeptRequest>();
  const auto start = [id, request](CallStore& store) -> absl::Status {
    BROOD_ASSIGN_OR_RETURN(*request, store.Start(id, WallUs()));
    return absl::OkStatus();
  };
  Insist(start, [this, name, id, request] { Run(name, id, *request); });
}

void AsyncCalls::Run(const std::string& name, const std::string& id, const KeptRequest& request) {
  if (closed_) return;
  const std::shared_ptr<FunctionPool> function = find_(name);
  if (!function) {
    // A restart or a reload has taken it away.
    return Finish(name, id, {404, "{}", "there is no longer a function of that name\n", false});
  }
  const auto run = std::make_shared<RecordedCall>();
  runs_.emplace(id, run);
  run->Start(pool_, timers_, function, id, request, *options_.running, options_.log,
             [this, name, id](const CallResult& result, bool refused) {
               runs_.erase(id);
               if (refused) return PutBack(name, id);
               Finish(name, id, result);
             });
}

void AsyncCalls::PutBack(const std::string& name, const std::string& id) {
  Insist([id](CallStore& store) { return store.PutBack(id); },
         [this, name, id] {
           Queue& queue = queues_[name];
           --queue.begun;
           --busy_;
           queue.ids.push_front(id);
           ++waiting_;
         });
}

void AsyncCalls::Finish(const std::string& name, const std::string& id, const CallResult& result) {
  Insist([id, result](CallStore& store) { return store.Finish(id, result, WallUs()); },
         [this, name] {
           --queues_[name].begun;
           --busy_;
           Pump();
         });
}

void AsyncCalls::Insist(const CallStoreThread::Work& work, std::function<void()> then) {
  store_->Add(work, [this, work, then = std::move(then)](const absl::Status& done) {
    if (done.ok()) return then();
    options_.complain(Message(done));
    if (closed_) return;
    timers_.Add(kTryDiskEvery, [this, work, then] { Insist(work, then); });
  });
}

void AsyncCalls::Tick() {
  if (closed_) return;
  if (waiting_ > 0) Pump();
  timers_.Add(kLookEvery, [this] { Tick(); });
}

void AsyncCalls::Sweep() {
  if (closed_) return;
  const std::int64_t keep_us =
      std::chrono::duration_cast<std::chrono::microseconds>(options_.keep).count();
  store_->Add([keep_us](CallStore& store) { return store.RemoveEnded(WallUs() - keep_us); },
              [this](const absl::Status& done) {
                if (!done.ok()) options_.complain(Message(done));
              });
  const std::chrono::nanoseconds after = std::clamp<std::chrono::nanoseconds>(
      options_.keep / 2, std::chrono::milliseconds(100), std::chrono::minutes(1));
  timers_.Add(after, [this] { Sweep(); });
}

}  // namespace brood
