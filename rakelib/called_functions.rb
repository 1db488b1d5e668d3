# frozen_string_literal: true

require "tempfile"

# Names the functions of db/functions that no test of the crate sql_functions has called.
#
# PostgreSQL counts calls (track_functions), and each test records those of its database when it ends
# (`World::record_calls`). It counts no SQL function that it inlines, and no call that raises an error: these functions
# are called when a called function, or a test, contains a call.
class CalledFunctions
  TESTS = "ext/orchestrator/tests/sql_functions/*_test.rs"

  # Yields the variable that has tests record their calls, and aborts if functions were not called.
  def self.check
    Tempfile.create("called_functions") do |file|
      yield({ "TASKER_CALLED_FUNCTIONS" => file.path })
      counted = file.readlines(chomp: true)
      next warn("The server does not count calls of functions (track_functions): not checked") if counted.empty?

      missing = new.missing(counted)
      abort "called by no test of sql_functions: #{missing.join(', ')}" if missing.any?
    end
  end

  def initialize
    @sources = Dir["db/functions/**/*.sql"].to_h do |path|
      [File.basename(path, ".sql"), File.read(path).gsub(/^\s*--.*/, "")]
    end
    inlined = /^(?:\) )?language sql\b/
    @uncounted = @sources.select { |name, source| name == "raise_error" || source.match?(inlined) }.keys
  end

  # @param counted [Array<String>] the functions that PostgreSQL has counted
  # @return [Array<String>]
  def missing(counted)
    called = counted.uniq | mentioned(Dir[TESTS].map { |path| File.read(path) })
    loop do
      found = mentioned(@sources.values_at(*called).compact) - called
      return (@sources.keys - called).sort if found.empty?

      called |= found
    end
  end

  private

  def mentioned(texts) = @uncounted.select { |name| texts.any? { |text| text.include?("#{name}(") } }
end
