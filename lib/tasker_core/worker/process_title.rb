# frozen_string_literal: true

module TaskerCore
  class Worker
    # The title of a process in `ps` and `top`: its role, the application and its current state.
    #
    # @api private
    class ProcessTitle
      # @return [String] the Rails application's name, or that of the current directory
      def self.application
        application = defined?(Rails.application) && Rails.application
        type = application.class if application
        (type ? type.module_parent_name || type.name : File.basename(Dir.pwd)).underscore
      end

      # @param part [String] the role: supervisor, or worker with its number
      # @param application [String]
      # @param process [#setproctitle]
      def initialize(part, application: self.class.application, process: Process)
        @beginning = "tasker: #{part} #{application}"
        @process = process
      end

      # @param state [String] appended to the application's name as it is
      def show(state)
        title = "#{@beginning}#{state}"
        return if title == @shown

        @process.setproctitle(title)
        @shown = title
      end
    end
  end
end
