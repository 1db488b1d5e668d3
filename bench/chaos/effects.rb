# frozen_string_literal: true

require "json"

module Chaos
  # What a step's handler answers: one more than the task's number and the values of its parents together.
  # @param parents [Array<Hash, nil>] results; a parent that an operator resolved has none
  def self.value(number, parents) = number + 1 + parents.sum { |result| result ? result.fetch("value", 0) : 0 }

  # What handlers did, told by themselves: one line at the start of each execution and one at its end, written at once
  # to a file of the process, so that a process that is killed has told everything up to then.
  module Effects
    # at: seconds on the clock that all processes of the machine share, and that nobody sets. task: its UUID, as a database
    # that has gone back to an earlier state gives its numbers again.
    Line = Struct.new(:at, :kind, :token, :task, :step, :attempt, :pid, :value, keyword_init: true) do
      # A token alone may come again after a fail-over.
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

    # @return [Array<Line>] of all processes, in the order of time
    def read(directory)
      lines = Dir["#{directory}/effects-*.jsonl"].flat_map { |path| File.foreach(path).map { |text| parse(text) } }
      lines.compact.sort_by(&:at)
    end

    # A line that a kill cut off was never an effect.
    def parse(text)
      Line.new(**JSON.parse(text, symbolize_names: true)) if text.end_with?("\n")
    end

    def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

    # Forked processes write to files of their own. Threads that come at once may open it twice, and append to it both.
    def file
      return @file if @pid == Process.pid

      path = "#{ENV.fetch('CHAOS_DIRECTORY')}/effects-#{Process.pid}.jsonl"
      @file = File.open(path, File::WRONLY | File::APPEND | File::CREAT)
      @pid = Process.pid
      @file
    end
  end
end
