# frozen_string_literal: true

module Fleet
  # A program in a process group of its own. It is killed with its children when this process dies, and its directory
  # removed.
  class Program
    # @return [Integer]
    attr_reader :pid

    # @param directory [String]
    # @param options [Hash] of `spawn`
    def initialize(*command, directory:, **options)
      @pid = spawn(*command, **options, pgroup: true)
      watch(directory)
    end

    # Also kills the children that a program without a parent leaves.
    def running?
      return false unless @pid
      return true unless Process.wait(@pid, Process::WNOHANG)

      finish
      false
    end

    # @param name [String] of a signal for the program and its children
    def signal(name)
      Process.kill(name, -@pid)
    rescue Errno::ESRCH
      nil # it has ended
    end

    # Ends the program in order, or after the limit with KILL.
    # @param limit [Numeric] seconds
    # @return [Integer, nil] its process id if it had to be killed
    def stop(limit)
      signal("CONT")
      # Only the parent, which ends its children in order.
      Process.kill("TERM", @pid)
      deadline = Fleet.now + limit
      sleep 0.02 while running? && Fleet.now < deadline
      @pid&.tap { kill }
    end

    # Kills the program and its children, and waits until it has ended.
    def kill
      return unless @pid

      signal("KILL")
      Process.wait(@pid)
      finish
    end

    private

    def finish
      signal("KILL") # children that outlived it
      @watcher.puts
      @watcher.close
      @pid = nil
    end

    # Kills the group when this process ends without `finish`, which closes the pipe.
    def watch(directory)
      reader, @watcher = IO.pipe
      script = "read -r _ || { kill -9 -#{@pid}; rm -rf '#{directory}'; }"
      Process.detach(spawn("sh", "-c", script, in: reader, %i[out err] => File::NULL, pgroup: true, @watcher => :close))
      reader.close
    end
  end
end
