# frozen_string_literal: true

module TaskerCore
  class CLI
    # For commands that need the Rails application of the current directory, or the file that --require names.
    #
    # @api private
    module Application
      include Files

      ENVIRONMENT = "config/environment.rb"

      private

      def prepare
        load_application
        verify_database
      end

      def options(parser)
        application_option(parser)
        super
      end

      def application_option(parser)
        parser.on("--require FILE", "Ruby file to load, instead of #{ENVIRONMENT}") { required_files << _1 }
        parser.on("--shard NAME", "shard of Active Record to use (default: the first)") { @shard = _1 }
      end

      # @raise [UsageError] if no application is found
      # @raise [ConfigurationError] if the application has no such shard
      def load_application
        load_files
        ApplicationRecord.use_shard(@shard) if @shard
      end

      def load_files
        return required_files.each { |path| load_ruby(path) } if required_files.any?

        unless environment_file
          raise UsageError, "there is no #{ENVIRONMENT} here or above: run the command in a Rails application, or " \
                            "name a file with --require"
        end

        require environment_file.to_s
      end

      # @return [Boolean] whether there is an application, or a file in its place
      def application? = required_files.any? || !environment_file.nil?

      # @raise [FunctionsMissingError] if the application's database is not prepared
      def verify_database
        ApplicationRecord.on_connection { |connection| Postgres::Functions.ensure_current(connection) }
      end

      # @return [String] the text, whose commands name the shard of this one: elsewhere the number is another task's
      def for_shard(text) = @shard ? text.gsub(/`tasker [^`]+(?=`)/) { "#{_1} --shard #{@shard}" } : text

      def environment_file
        @environment_file ||= Pathname.pwd.ascend.map { |directory| directory.join(ENVIRONMENT) }.find(&:file?)
      end

      def required_files = @required_files ||= []

      # The actor to record with an action.
      def operator
        Support::Utf8.text("#{Etc.getlogin || Etc.getpwuid&.name || Process.uid}@#{Socket.gethostname}").scrub
      end
    end
  end
end
