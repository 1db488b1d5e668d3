# frozen_string_literal: true

module TaskerCore
  class CLI
    # For commands that work in the Rails application of the current directory, or one above it, or in what --require names.
    module Application
      include Files

      ENVIRONMENT = "config/environment.rb"

      private

      def application_option(options)
        options.on("--require FILE", "Ruby file to load, instead of #{ENVIRONMENT}") { required_files << _1 }
      end

      # @raise [UsageError] when there is no application
      def load_application
        return required_files.each { |path| load_ruby(path) } if required_files.any?

        path = environment_file
        unless path
          raise UsageError, "there is no #{ENVIRONMENT} here: run it in a Rails application, or name a file with --require"
        end

        require path
      end

      # @return [String, nil] of the application in whose directories we are
      def environment_file
        Pathname.pwd.ascend.map { |directory| directory.join(ENVIRONMENT).to_s }.find { |path| File.file?(path) }
      end

      # @raise [FunctionsMissingError] when the application's database is not prepared
      def verify_database
        ApplicationRecord.on_connection { |connection| Functions.ensure_current(connection) }
      end

      def required_files = @required_files ||= []

      # Who an operator is, for the record.
      def operator = "#{Etc.getlogin || Process.uid}@#{Socket.gethostname}"
    end
  end
end
