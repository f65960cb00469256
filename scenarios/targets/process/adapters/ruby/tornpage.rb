# The tornpage protocol for Ruby: copy this file beside your adapter. You write `open`, `call`, `view` and `close`.
#
#   Tornpage.serve(description, Adapter.new)
#
# `open(where)` gets a Hash with "directory", "journal_mode", "synchronous" and "now_ms", and may return the database's path
# where the store chooses it. What `call(action, args, now_ms)` returns is its answer, where that is a String, a number, a
# list, a Hash, true or false; what it raises has failed, or is refused if it is a Refused. What is printed goes to standard
# error.

require "json"

class Refused < StandardError; end

module Tornpage
  def self.serve(description, adapter)
    said = $stdout.dup
    $stdout = $stderr
    said.sync = true
    $stdin.each_line do |line|
      said.write(JSON.generate(answer(description, adapter, JSON.parse(line))) + "\n")
    end
  end

  def self.answer(description, adapter, request)
    { answer: "done" }.merge(result_of(description, adapter, request))
  rescue Refused => e
    { answer: "refused", message: e.message }
  rescue StandardError => e
    e = e.cause if e.cause && rolls_back_by_itself(e)
    { answer: "failed", message: "#{e.class}: #{e.message}" }
  end

  # The gem's `transaction` block sends ROLLBACK after any error, also if SQLite has rolled back already. That raises "cannot
  # rollback" in the place of the error, which is its cause.
  def self.rolls_back_by_itself(error)
    innermost = (error.backtrace || []).take_while { |line| line.include?("/sqlite3/") }
    innermost.any? { |line| line.match?(/[`'#]transaction'/) }
  end

  def self.result_of(description, adapter, request)
    case request["do"]
    when "describe" then { protocol: 1, pid: Process.pid, description: description }
    when "open"
      database = adapter.open(request)
      database.is_a?(String) ? { database: database } : {}
    when "call"
      value = adapter.call(request["action"], request["args"], request["now_ms"])
      value.nil? ? {} : { value: value }
    when "view" then { view: adapter.view }
    when "close"
      adapter.close
      {}
    end
  end
end
