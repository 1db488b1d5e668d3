# frozen_string_literal: true

module TaskerCore
  module Generators
    # Adds `tasker work` to the files that start an application's processes. Only to those that exist, and only if they,
    # or Puma's plugin, do not start it already.
    #
    # @api private
    module WorkerEntries
      PROCFILES = %w[Procfile Procfile.dev].freeze
      DEV = "bin/dev"
      COMMAND = "bin/tasker work"
      # `bin/tasker work`, or `exec("bin/tasker", "work")`.
      PRESENT = /tasker["']?,?\s+["']?work\b/
      # In a bin/dev without foreman: the line that turns it into the web server.
      SERVER = %r{^exec\b.*bin/rails["', ]+s(?:erver)?\b}
      SPAWN = %(spawn "bin/tasker", "work", "--parent", Process.pid.to_s # until the web server ends\n)
      private_constant :PROCFILES, :DEV, :COMMAND, :PRESENT, :SERVER, :SPAWN

      private

      def add_worker_entries
        return if text_of("config/puma.rb").match?(/^\s*plugin[ (]+:tasker_core\b/)

        PROCFILES.each { |file| add_to_procfile(file) if present?(file) }
        add_to_dev if text_of(DEV).match?(/\A#!.*\bruby/) && text_of(DEV).match?(SERVER)
      end

      def add_to_procfile(file)
        text = text_of(file)
        return if text.match?(PRESENT)

        name = text.match?(/^worker:/) ? "tasker" : "worker"
        append_to_file file, "#{"\n" unless text.empty? || text.end_with?("\n")}#{name}: #{COMMAND}\n"
      end

      def add_to_dev
        inject_into_file DEV, SPAWN, before: SERVER unless text_of(DEV).match?(PRESENT)
      end

      # Removes what was added, and leaves lines that the application has changed.
      def remove_worker_entries
        PROCFILES.each { |file| remove_lines(file, /^(?:worker|tasker): #{COMMAND}\n/) }
        remove_lines(DEV, /^#{Regexp.escape(SPAWN)}/)
      end

      def remove_lines(file, lines)
        text = text_of(file)
        return unless text.match?(lines)

        say_status :subtract, file
        File.write(File.join(destination_root, file), text.gsub(lines, "")) unless options[:pretend]
      end

      def present?(file) = File.file?(File.join(destination_root, file))

      def text_of(file) = present?(file) ? Support::Utf8.read(File.join(destination_root, file)) : ""
    end
  end
end
