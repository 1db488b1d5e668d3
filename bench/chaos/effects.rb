# frozen_string_literal: true

require "json"

module Chaos
  # The result of a step: one more than the sum of the task's number and the values of its parents.
  # @param parents [Array<Hash, nil>] results; a parent that an operator resolved has none
  def self.value(number, parents) = number + 1 + parents.sum { |result| result ? result.fetch("value", 0) : 0 }

  # A log that handlers write: one line at the start of each execution and one at its end, written immediately to a file
  # of the process, so that the log of a killed process is complete.
  module Effects
    # at: seconds on the monotonic clock that all processes of the machine share. task: its UUID, because a database
    # that has returned to an earlier state assigns numbers again.
    Line = Struct.new(:at, :kind, :token, :task, :step, :attempt, :pid, :value, keyword_init: true) do
      # A token alone may be issued again after a fail-over.
      def execution = [token, task, step]

      def task_and_step = [task, step]
    end

    module_function

    # @param kind ["start", "end"]
    def record(kind, context, value = nil)
      line = { at: now, kind: kind, token: context.token, task: context.task_uuid, step: context.step_name,
               attempt: context.attempt, pid: Process.pid, value: value }
      file.syswrite("#{JSON.generate(line)}\n")
    end

    # @return [Array<Line>] those of all processes, in chronological order
    def read(directory)
      lines = Dir["#{directory}/effects-*.jsonl"].flat_map { |path| File.foreach(path).map { |text| parse(text) } }
      lines.compact.sort_by(&:at)
    end

    # nil for a line that a kill cut off.
    def parse(text)
      Line.new(**JSON.parse(text, symbolize_names: true)) if text.end_with?("\n")
    end

    def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

    # Each forked process writes to its own file. Concurrent threads may open it twice; both append.
    def file
      return @file if @pid == Process.pid

      path = "#{ENV.fetch('CHAOS_DIRECTORY')}/effects-#{Process.pid}.jsonl"
      @file = File.open(path, File::WRONLY | File::APPEND | File::CREAT)
      @pid = Process.pid
      @file
    end
  end
end
