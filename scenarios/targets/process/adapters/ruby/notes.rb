# ruby notes.rb [memory-first]
require "sqlite3"
require_relative "tornpage"

class Notes
  def initialize(memory_first)
    @memory_first = memory_first
  end

  def open(where)
    @db = SQLite3::Database.new(File.join(where["directory"], "notes.sqlite"))
    @db.busy_timeout(1000)
    @db.execute("PRAGMA journal_mode = #{where["journal_mode"]}")
    @db.execute("PRAGMA synchronous = #{where["synchronous"]}")
    @db.execute("CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, text TEXT)")
    @notes = @db.execute("SELECT name, text FROM notes").to_h
    nil
  rescue SQLite3::Exception
    @db&.close
    raise
  end

  def call(action, args, _now_ms)
    raise Refused, "no such note" if action == "remove" && !@notes.key?(args["name"])

    remember(action, args) if @memory_first
    if action == "put"
      @db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", [args["name"], args["text"]])
    else
      @db.execute("DELETE FROM notes WHERE name = ?", [args["name"]])
    end
    remember(action, args)
    nil
  end

  def remember(action, args)
    action == "put" ? @notes[args["name"]] = args["text"] : @notes.delete(args["name"])
  end

  def view = @notes

  def close = @db.close
end

Tornpage.serve({
  title: "notes in Ruby",
  database: "notes.sqlite",
  calls: [
    { name: "put", args: { name: "milk", text: "buy" } },
    { name: "put", args: { name: "milk", text: "bought" } },
    { name: "remove", args: { name: "milk" } }
  ],
  beat: { name: "put", args: { name: "heartbeat", text: "alive" } },
  rows: ["SELECT name, text FROM notes"]
}, Notes.new(ARGV[0] == "memory-first"))
