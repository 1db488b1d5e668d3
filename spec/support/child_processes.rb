# frozen_string_literal: true

require "timeout"

# Code that runs in a forked child of a test.
module ChildProcesses
  # Runs the block in a forked child, which then collects garbage and ends without its `at_exit` blocks.
  # @param limit [Numeric] seconds until the child is killed
  # @return [Object] what the block returned, as JSON has it
  def in_child_process(limit: 20)
    reader, writer = IO.pipe
    child = fork do
      reader.close
      writer.write(JSON.generate(yield))
      writer.close
      GC.start
      exit!(0)
    end
    writer.close
    text = Timeout.timeout(limit) { reader.read }
    expect(Process.wait2(child).last).to be_success
    JSON.parse(text)
  ensure
    end_child(child) if child
  end

  private

  def end_child(child)
    Process.kill("KILL", child)
    Process.wait(child)
  rescue Errno::ESRCH, Errno::ECHILD
    nil # it has ended already
  end
end

RSpec.configure { |config| config.include ChildProcesses }
