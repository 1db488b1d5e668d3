# frozen_string_literal: true

module TaskerCore
  class Worker
    # What `ps` and `top` show of a process: its part, the application, and what it does at the moment.
    #
    # @api private
    class ProcessTitle
      # @return [String] the Rails application's name, or that of the current directory
      def self.application
        application = defined?(Rails.application) && Rails.application
        type = application.class if application
        (type ? type.module_parent_name || type.name : File.basename(Dir.pwd)).underscore
      end

      # @param part [String] supervisor, or worker with its number
      # @param application [String]
      # @param process [#setproctitle]
      def initialize(part, application: self.class.application, process: Process)
        @beginning = "tasker: #{part} #{application}"
        @process = process
      end

      # @param state [String] with what separates it from the name
      def show(state)
        title = "#{@beginning}#{state}"
        return if title == @shown

        @process.setproctitle(title)
        @shown = title
      end
    end
  end
end
